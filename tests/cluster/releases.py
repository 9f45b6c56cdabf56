"""A release of the chart in a namespace of its own: installed, waited for, removed.

A cluster made by the kit has no provisioner of volumes, so that a release brings the volume of its
database along; another cluster takes its default class.
"""

from __future__ import annotations

import base64
import json
import operator
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images import make
from images.parts import Refused
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.security import files
from midstreamer_operator.resources import authorities, passwords
from tests.cluster import host, mark, names
from tests.cluster.pods import Kubernetes

CHART = Path(__file__).parents[2] / "charts/midstreamer"
DEFINITIONS = (CHART.parent / "midstreamer-cluster/templates/agentpools.yaml",)
READY_S_MAX = 60.0
TRUST_DOMAIN = "midstreamer.local"
CLIENTS = "client/test-*"
PYTHON = "/opt/midstreamer/bin/python"
"""In the images."""
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Release:
    """One release; `values` are what the chart is installed with beside what tests need."""

    kubernetes: Kubernetes
    name: str = "mid"
    values: Mapping[str, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Install the chart, without waiting; raises KitError with Helm's complaint."""
        if cluster := mark.made_here():
            self.volume(cluster)
        self.put()

    def put(self) -> None:
        """The same where its volume is there already, as after `take_away`; raises KitError."""
        install_definitions(self.kubernetes)
        words = ["upgrade", "--install", self.name, str(CHART), "--namespace", self.namespace]
        host.run([mark.helm(), *words, "--values", "-"], stdin=self.given())

    def given(self) -> str:
        """The values that the chart is installed with, as Helm reads them."""
        return json.dumps({**self._values(), **self.values})

    def take_away(self) -> None:
        """`helm uninstall`: its data stay, and what the operator made; raises KitError."""
        words = ["uninstall", self.name, "--namespace", self.namespace, "--wait"]
        host.run([mark.helm(), *words, "--timeout", "90s"])

    def uninstall(self, *, volume: bool = True) -> None:
        """Remove the release, its volume and what the operator made; raises KitError."""
        self.take_away()
        claim = f"persistentvolumeclaim/data-{self.name}-postgres-0"
        self.kubernetes("delete", claim, "--timeout=60s", "--ignore-not-found")
        if volume and mark.made_here():
            self.kubernetes("delete", "persistentvolume", self._volume_name, "--timeout=60s")

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.kubernetes.namespace

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Its pods that are not about to go, of one component or all, as objects."""
        selector = f"{INSTANCE}={self.name}" + (f",{COMPONENT}={component}" if component else "")
        found = self.kubernetes.get("pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_ready(self, *, timeout_s: float = READY_S_MAX) -> dict[str, float]:
        """Wait until every pod is there and ready; the seconds from its start to ready, by name.

        Raises KitError that names the pods which are not, and what each waits for.
        """
        host.eventually("every pod is ready", self.lacking, operator.not_, timeout_s=timeout_s)
        return {pod["metadata"]["name"]: _ready_after_s(pod) for pod in self.pods()}

    def lacking(self) -> list[str]:
        """What is missing until all is ready, a line each."""
        selector = ("-l", f"{INSTANCE}={self.name}")
        owners = self.kubernetes.get("deployments,statefulsets", *selector)["items"]
        lines = []
        for owner in owners:
            wanted = owner["spec"]["replicas"]
            ready = owner.get("status", {}).get("readyReplicas", 0)
            seen = owner.get("status", {}).get("observedGeneration", 0)
            if ready != wanted or seen != owner["metadata"]["generation"]:
                lines.append(f"{owner['metadata']['name']} {ready} of {wanted}")
        for pool in self.kubernetes.get("agentpools", *selector)["items"]:
            ready = _condition(pool, "Ready")
            generation = pool["metadata"]["generation"]
            if ready["status"] != "True" or ready.get("observedGeneration") != generation:
                lines.append(f"pool {pool['metadata']['name']}: {ready['message']}")
        lines += [pod["metadata"]["name"] for pod in self.pods() if not is_ready(pod)]
        return lines

    def client(self, directory: Path, label: str = "test-1") -> None:
        """Write the credentials of a client into a directory, certified by the authority.

        The authority's key is read as an administrator may, and written nowhere.
        """
        secret = self.kubernetes.get(f"secret/{authorities.secret_name(self.name)}")
        authority = authorities.authority(secret, TRUST_DOMAIN)
        files.issue(authority, identity.make(TRUST_DOMAIN, Kind.CLIENT, label), directory, days=1)
        coordinators = f"coordinator/{self.namespace}/{self.name}-coordinator-*"
        files.write_allowlist(directory / "allowlist", [coordinators])

    def password(self) -> str:
        """The database's password, as an administrator may read it."""
        secret = self.kubernetes.get(f"secret/{passwords.secret_name(self.name)}")
        return base64.b64decode(secret["data"][passwords.KEY]).decode()

    @property
    def monitoring(self) -> dict[str, str]:
        """Labels of namespaces from which metrics are read and to which traces are sent."""
        return {"midstreamer-test/monitors": self.namespace}

    def _values(self) -> dict[str, Any]:
        return {
            "image": images(),
            "cluster": {"create": True},
            "allowlist": [CLIENTS],
            "coordinator": {"service": {"type": "NodePort"}},
            "networkPolicies": self._network_policies(),
        }

    def _network_policies(self) -> dict[str, Any]:
        """As narrow as the cluster's networks are known."""
        narrow: dict[str, Any] = {
            "prometheus": {"namespaceLabels": self.monitoring},
            "otlp": {"namespaceLabels": self.monitoring, "ports": [4317]},
        }
        if mark.made_here():
            api = f"{names.API_ADDRESS}/32"
            narrow["apiServer"] = {"cidrs": [api], "ports": [names.API_PORT]}
            narrow["outside"] = {"cidrs": ["0.0.0.0/0"], "except": [names.PODS]}
        return narrow

    @property
    def _volume_name(self) -> str:
        return f"{self.namespace}-{self.name}"

    def volume(self, cluster: names.Cluster) -> None:
        """A volume on node-0 that is bound to the claim of the database's pod."""
        place = cluster.state / "volumes" / f"{self._volume_name}-{secrets.token_hex(3)}"
        place.mkdir(parents=True)
        claim = {"namespace": self.namespace, "name": f"data-{self.name}-postgres-0"}
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-0"]}
        spec = {
            "capacity": {"storage": "8Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": claim,
            "local": {"path": str(place)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        made = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self._volume_name},
            "spec": spec,
        }
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(made))


def images() -> dict[str, str]:
    """The chart's values about the images of these very sources; raises KitError without any.

    REGISTRY says where they were pushed to; without it they must be in the nodes.
    """
    try:
        tag = str(make.found()["tag"])
    except Refused as error:
        raise host.KitError(str(error)) from error
    registry = os.environ.get("REGISTRY", "")
    return {"registry": registry, "tag": tag, "pullPolicy": "IfNotPresent" if registry else "Never"}


def install_definitions(kubernetes: Kubernetes) -> None:
    """Have the kinds of our own in the cluster, as its administrator would."""
    kubernetes("apply", "--server-side", *(f"--filename={each}" for each in DEFINITIONS))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready."""
    return _condition(pod, "Ready").get("status") == "True"


def _condition(pod: Mapping[str, Any], kind: str) -> dict[str, Any]:
    conditions: Sequence[dict[str, Any]] = pod.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def _ready_after_s(pod: Mapping[str, Any]) -> float:
    made, ready = pod["metadata"]["creationTimestamp"], _condition(pod, "Ready")
    return _seconds(ready["lastTransitionTime"]) - _seconds(made)


def _seconds(moment: str) -> float:
    return time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
