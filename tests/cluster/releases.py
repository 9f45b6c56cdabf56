"""Install a release of the chart in a namespace, wait for it, and remove it.

A cluster that `make cluster` started has no provisioner of volumes, so there `Release.install`
makes the volume of the database.  Every other cluster must have a default StorageClass.
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

from images import build_images
from images.parts import Refused
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.security import files
from midstreamer_operator.resources import authorities, passwords
from tests.cluster import cluster_guard, commands_here, names
from tests.cluster.pods import Kubernetes

CHART = Path(__file__).parents[2] / "charts/midstreamer"
DEFINITIONS = (CHART.parent / "midstreamer-cluster/templates/agentpools.yaml",)
READY_S_MAX = 60.0
TRUST_DOMAIN = "midstreamer.local"
CLIENTS = "client/test-*"
PYTHON = "/opt/midstreamer/bin/python"
"""The path of Python in the images."""
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Release:
    """One release of the chart; `values` are added to the values that every test needs."""

    kubernetes: Kubernetes
    name: str = "mid"
    values: Mapping[str, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Install the chart without waiting; raises KitError with Helm's error output."""
        if cluster := cluster_guard.made_here():
            self.volume(cluster)
        self.put()

    def put(self) -> None:
        """Install or upgrade the chart, without making the database's volume; raises KitError.

        Use it when the volume already exists, for example after `take_away`.
        """
        install_definitions(self.kubernetes)
        words = ["upgrade", "--install", self.name, str(CHART), "--namespace", self.namespace]
        commands_here.run([cluster_guard.helm(), *words, "--values", "-"], stdin=self.given())

    def given(self) -> str:
        """Return the values of the release as JSON, for Helm."""
        return json.dumps({**self._values(), **self.values})

    def take_away(self) -> None:
        """Run `helm uninstall`; raises KitError.

        The database's data stays, and so do the objects that the operator made.
        """
        words = ["uninstall", self.name, "--namespace", self.namespace, "--wait"]
        commands_here.run([cluster_guard.helm(), *words, "--timeout", "90s"])

    def uninstall(self, *, volume: bool = True) -> None:
        """Uninstall the release and delete the database's PersistentVolumeClaim; raises KitError.

        If `volume` is true and `tests.cluster` made the cluster, also delete the PersistentVolume.
        """
        self.take_away()
        claim = f"persistentvolumeclaim/data-{self.name}-postgres-0"
        self.kubernetes("delete", claim, "--timeout=60s", "--ignore-not-found")
        if volume and cluster_guard.made_here():
            self.kubernetes("delete", "persistentvolume", self._volume_name, "--timeout=60s")

    @property
    def namespace(self) -> str:
        """The namespace of the release."""
        return self.kubernetes.namespace

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Return the pods of one component, or of all components, as objects.

        Pods that are being deleted are left out.
        """
        selector = f"{INSTANCE}={self.name}" + (f",{COMPONENT}={component}" if component else "")
        found = self.kubernetes.get("pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_ready(self, *, timeout_s: float = READY_S_MAX) -> dict[str, float]:
        """Wait until every pod is ready; return the seconds from creation to ready, by pod name.

        Raises KitError that names the workloads, pools and pods that are not ready.
        """
        commands_here.eventually(
            "every pod is ready", self.lacking, operator.not_, timeout_s=timeout_s
        )
        return {pod["metadata"]["name"]: _ready_after_s(pod) for pod in self.pods()}

    def lacking(self) -> list[str]:
        """Return a line for each workload, pool and pod that is not ready."""
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
        """Issue a client certificate and write the client's credentials into a directory.

        The authority's key is read from its Secret with an administrator's rights; it is not
        written to disk.
        """
        secret = self.kubernetes.get(f"secret/{authorities.secret_name(self.name)}")
        authority = authorities.authority(secret, TRUST_DOMAIN)
        files.issue(authority, identity.make(TRUST_DOMAIN, Kind.CLIENT, label), directory, days=1)
        coordinators = f"coordinator/{self.namespace}/{self.name}-coordinator-*"
        files.write_allowlist(directory / "allowlist", [coordinators])

    def password(self) -> str:
        """Return the database's password from its Secret, with an administrator's rights."""
        secret = self.kubernetes.get(f"secret/{passwords.secret_name(self.name)}")
        return base64.b64decode(secret["data"][passwords.KEY]).decode()

    @property
    def monitoring(self) -> dict[str, str]:
        """The labels of a namespace whose pods may scrape metrics and receive traces."""
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
        """Return values that make the NetworkPolicies as narrow as possible in this cluster."""
        narrow: dict[str, Any] = {
            "prometheus": {"namespaceLabels": self.monitoring},
            "otlp": {"namespaceLabels": self.monitoring, "ports": [4317]},
        }
        if cluster_guard.made_here():
            api = f"{names.API_ADDRESS}/32"
            narrow["apiServer"] = {"cidrs": [api], "ports": [names.API_PORT]}
            narrow["outside"] = {"cidrs": ["0.0.0.0/0"], "except": [names.PODS]}
        return narrow

    @property
    def _volume_name(self) -> str:
        return f"{self.namespace}-{self.name}"

    def volume(self, cluster: names.Cluster) -> None:
        """Make a volume on node-0 that is bound to the claim of the database's pod."""
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
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self._volume_name},
            "spec": spec,
        }
        self.kubernetes("apply", "-f", "-", stdin=json.dumps(volume))


def images() -> dict[str, str]:
    """Return the chart's values that select the images built from the current sources.

    Raises KitError when no such images were built.

    The environment variable REGISTRY names the registry to which the images were pushed; without
    it, the images must have been imported into the nodes.
    """
    try:
        tag = str(build_images.found()["tag"])
    except Refused as error:
        raise commands_here.KitError(str(error)) from error
    registry = os.environ.get("REGISTRY", "")
    return {"registry": registry, "tag": tag, "pullPolicy": "IfNotPresent" if registry else "Never"}


def install_definitions(kubernetes: Kubernetes) -> None:
    """Install this project's CustomResourceDefinitions in the cluster."""
    kubernetes("apply", "--server-side", *(f"--filename={each}" for each in DEFINITIONS))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's condition Ready is true."""
    return _condition(pod, "Ready").get("status") == "True"


def _condition(pod: Mapping[str, Any], kind: str) -> dict[str, Any]:
    conditions: Sequence[dict[str, Any]] = pod.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def _ready_after_s(pod: Mapping[str, Any]) -> float:
    made, ready = pod["metadata"]["creationTimestamp"], _condition(pod, "Ready")
    return _seconds(ready["lastTransitionTime"]) - _seconds(made)


def _seconds(moment: str) -> float:
    return time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
