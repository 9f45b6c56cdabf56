"""Make service accounts, roles, pods and tokens, to test who gets a certificate.

The rights are exactly those of the chart.  The pods are never scheduled, because a token can be
bound to a pod that does not run.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.service_account import Account
from tests.cluster import cluster_guard, commands_here, pods, releases
from tests.cluster.pods import Kubernetes

RELEASE = "mid"
STRANGER = f"{RELEASE}-stranger"


@dataclass(frozen=True)
class Bound:
    """A pod of a test, and its service account with a token that is bound to the pod."""

    name: str
    uid: str
    account: Account


class Installation:
    """The service accounts and roles of one release in the namespace of a test."""

    def __init__(self, kubernetes: Kubernetes, directory: Path) -> None:
        self.kubernetes = kubernetes
        self.namespace = kubernetes.namespace
        self._directory = directory
        view = json.loads(kubernetes("config", "view", "--raw", "--minify", "-o", "json"))
        self._cluster = view["clusters"][0]["cluster"]

    def apply(self) -> None:
        """Make the accounts and roles of the chart, and the account STRANGER.

        STRANGER has the rights of a member of the fleet, but belongs to no component.
        """
        shown = [f"--show-only=templates/{each}.yaml" for each in ("accounts", "cluster", "rights")]
        words = ["template", RELEASE, str(releases.CHART), "--namespace", self.namespace]
        words += ["--set", "cluster.create=true"]
        words += ["--set", f"clients.namespaces={{{self.namespace}}}"]
        self.kubernetes(
            "apply", "-f", "-", stdin=commands_here.run([cluster_guard.helm(), *words, *shown])
        )
        self.kubernetes("create", "serviceaccount", STRANGER)
        who = f"--serviceaccount={self.namespace}:{STRANGER}"
        self.kubernetes("create", "rolebinding", STRANGER, f"--role={RELEASE}-member", who)
        wide = ("clusterrolebinding", self._wide("stranger"))
        self.kubernetes("create", *wide, f"--clusterrole={self._wide('member')}", who)

    def remove(self) -> None:
        """Delete the cluster-wide roles and bindings, which outlive the namespace."""
        kinds = ("operator", "member", "client")
        bindings = (self._wide(who) for who in (*kinds, "stranger"))
        self.kubernetes("delete", "clusterrolebinding", *bindings)
        self.kubernetes("delete", "clusterrole", *(self._wide(who) for who in kinds))

    def pod(self, name: str, account: str) -> Bound:
        """Make a pod that is never scheduled; return it with a token that is bound to it."""
        manifest = pods.pod(name, "pause")
        manifest["spec"] |= {"serviceAccountName": account, "nodeSelector": {"no-such": "node"}}
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(manifest))
        uid = self.kubernetes.get(f"pod/{name}")["metadata"]["uid"]
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
        words = ("create", "token", account, *bound, f"--bound-object-uid={uid}")
        return Bound(name, uid, self._account(name, self.kubernetes(*words).strip()))

    def let_clients_in(self, *, labelled: bool) -> None:
        """Set or remove the label that lets pods of the namespace be clients of the fleet."""
        label = kubernetes_names.client_label(self.namespace, RELEASE)
        word = f"{label}={kubernetes_names.CLIENT}" if labelled else f"{label}-"
        self.kubernetes("label", "namespace", self.namespace, word)

    def person(self, name: str, *identities: str) -> Account:
        """Make a person's account; the person may use these identities.

        Its token is bound to no pod.
        """
        self.kubernetes("create", "serviceaccount", name)
        for identity in identities:
            rule = {
                "apiGroups": [kubernetes_names.GROUP],
                "resources": [kubernetes_names.CLIENT_IDENTITIES],
                "resourceNames": [identity],
                "verbs": [kubernetes_names.USE],
            }
            role = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": {"name": identity},
                "rules": [rule],
            }
            self.kubernetes("apply", "-f", "-", stdin=json.dumps(role))
            who = f"--serviceaccount={self.namespace}:{name}"
            self.kubernetes(
                "create", "rolebinding", f"{name}-{identity}", f"--role={identity}", who
            )
        return self._account(name, self.kubernetes("create", "token", name).strip())

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
        return f"midstreamer:{self.namespace}:{RELEASE}:{who}"
