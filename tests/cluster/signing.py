"""An installation whose pods earn certificates: accounts, roles, pods and their tokens.

The roles are those that docs/explanation/decisions/0018 names, and no more.  The pods are never
scheduled: a token may be bound to a pod that does not run.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from midstreamer.cluster import naming
from midstreamer.cluster.account import Account
from tests.cluster import pods
from tests.cluster.pods import Kubernetes

RELEASE = "mid"
ACCOUNTS = ("mid-operator", "mid-agent", "mid-coordinator", "mid-postgres", "mid-stranger")
REQUESTS = "certificatesigningrequests"
Rule = dict[str, list[str]]


@dataclass(frozen=True)
class Bound:
    """A pod, and its service account as it would be mounted into it."""

    name: str
    uid: str
    account: Account


class Installation:
    """Accounts and roles of one release in the namespace of a test."""

    def __init__(self, kubernetes: Kubernetes, directory: Path) -> None:
        self.kubernetes = kubernetes
        self.namespace = kubernetes.namespace
        self._directory = directory
        view = json.loads(kubernetes("config", "view", "--raw", "--minify", "-o", "json"))
        self._cluster = view["clusters"][0]["cluster"]

    def apply(self) -> None:
        """Make accounts, roles and bindings; what is of the cluster is named by the namespace."""
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(_list(self._objects())))

    def remove(self) -> None:
        """Remove what does not go with the namespace."""
        for kind in ("clusterrolebinding", "clusterrole"):
            self.kubernetes("delete", kind, *(self._wide(who) for who in ("operator", "pods")))

    def pod(self, name: str, account: str) -> Bound:
        """A pod that waits for a node for ever, and a token that is bound to it."""
        made = pods.pod(name, "pause")
        made["spec"] |= {"serviceAccountName": account, "nodeSelector": {"no-such": "node"}}
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(made))
        uid = self.kubernetes.get(f"pod/{name}")["metadata"]["uid"]
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
        words = ("create", "token", account, *bound, f"--bound-object-uid={uid}")
        return Bound(name, uid, self._account(name, self.kubernetes(*words).strip()))

    def _account(self, name: str, token: str) -> Account:
        directory = self._directory / name
        directory.mkdir()
        if data := self._cluster.get("certificate-authority-data"):
            authority = base64.b64decode(data)
        else:
            authority = Path(self._cluster["certificate-authority"]).read_bytes()
        (directory / "ca.crt").write_bytes(authority)
        (directory / "token").write_text(token)
        (directory / "namespace").write_text(self.namespace)
        server = urlsplit(self._cluster["server"])
        assert server.hostname
        return Account(server.hostname, server.port or 443, self.namespace, directory)

    def _wide(self, who: str) -> str:
        return f"{self.namespace}-{who}"

    def _objects(self) -> list[dict[str, Any]]:
        operator, members = ["mid-operator"], list(ACCOUNTS[1:])
        certificates = "certificates.k8s.io"
        signer = naming.signer(self.namespace, RELEASE)
        lease = f"{RELEASE}-operator"
        parts = [f"{REQUESTS}/approval", f"{REQUESTS}/status"]
        return [
            *({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name}}
              for name in ACCOUNTS),
            *_granted("ClusterRole", self._wide("operator"), operator, self.namespace, [
                _rule(certificates, [REQUESTS], ["list", "watch"]),
                _rule(certificates, parts, ["update"]),
                _rule(certificates, ["signers"], ["approve", "sign"], [signer]),
            ]),
            *_granted("Role", "operator", operator, self.namespace, [
                _rule("", ["pods"], ["get"]),
                _rule("", ["configmaps"], ["create", "get", "list", "update", "delete"]),
                _rule("", ["secrets"], ["create"]),
                _rule("", ["secrets"], ["get"], [f"{RELEASE}-authority"]),
                _rule("coordination.k8s.io", ["leases"], ["create"]),
                _rule("coordination.k8s.io", ["leases"], ["get", "update"], [lease]),
                _rule("", ["events"], ["create"]),
            ]),
            *_granted("ClusterRole", self._wide("pods"), members, self.namespace, [
                _rule(certificates, [REQUESTS], ["create", "watch"]),
            ]),
            *_granted("Role", "pods", members, self.namespace, [
                _rule("", ["configmaps"], ["get"], [naming.bundle(RELEASE)]),
            ]),
        ]  # fmt: skip


def _rule(
    group: str, resources: list[str], verbs: list[str], names: list[str] | None = None
) -> Rule:
    made = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return made if names is None else {**made, "resourceNames": names}


def _granted(
    kind: str, name: str, accounts: list[str], namespace: str, rules: list[Rule]
) -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    subjects = [
        {"kind": "ServiceAccount", "name": each, "namespace": namespace} for each in accounts
    ]
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    return [
        {**head, "kind": kind, "rules": rules},
        {
            **head,
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": subjects,
        },
    ]


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}
