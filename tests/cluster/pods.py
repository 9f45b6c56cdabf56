"""Run kubectl in a namespace of KUBECONFIG's cluster, and make pods that any cluster admits.

The pods run the image of the test program "probe", whose source is in `programs/probe`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import commands_here, component_configs

READY_S_MAX = 60.0


@dataclass(frozen=True)
class Kubernetes:
    """kubectl for one namespace of the cluster that KUBECONFIG names."""

    program: Path
    namespace: str

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl and return its output; raises KitError with its error output."""
        words: list[str | Path] = [
            self.program,
            "--request-timeout=20s",
            "-n",
            self.namespace,
            *arguments,
        ]
        return commands_here.run(words, stdin=stdin)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Run `kubectl get` and return the object or list; raises KitError."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "-o", "json"))
        return found

    def run_pod(self, name: str, *arguments: str) -> None:
        """Start a pod that runs the probe image once: it is not restarted when it ends."""
        self("apply", "-f", "-", stdin=json.dumps(pod(name, *arguments)))

    def wait(self, name: str, phase: str) -> None:
        """Wait until a pod is in a phase such as "Succeeded"; raises KitError."""
        reached = f"--for=jsonpath={{.status.phase}}={phase}"
        self("wait", reached, f"pod/{name}", f"--timeout={READY_S_MAX:g}s")


def pod(name: str, *arguments: str, restart: str = "Never") -> dict[str, Any]:
    """Return a pod that runs the probe image and meets the Pod Security Standard "restricted".

    `arguments` are the arguments of the probe, `restart` is the pod's restartPolicy.
    """
    confined = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container = {
        "name": "probe",
        "image": component_configs.PROBE_IMAGE,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "securityContext": confined,
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 5,
            "securityContext": user,
            "containers": [container],
        },
    }


def service(name: str, protocol: str, port: int, **more: Any) -> dict[str, Any]:
    """Return a Service for the pod of the same name; `protocol` is tcp or udp."""
    ports = [{"port": port, "protocol": protocol.upper()}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **more},
    }


def manifest(*pods: str) -> str:
    """Return a list of pods as JSON, for `kubectl apply`; `pods` are their names.

    Each pod runs the test program "probe" as a server, which answers with the pod's name.
    """
    items = [pod(name, "serve", restart="Always") for name in pods]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
