"""Tests run only on a cluster that is marked as a test cluster.

The mark is a ConfigMap in kube-system: only an administrator can set it, and nobody sets it on a
cluster that he wants to keep by accident.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.cluster import build, host, names

NAMESPACE = "kube-system"
NAME = "midstreamer-test-cluster"


def manifest() -> str:
    """The object that marks a cluster."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def check() -> str:
    """The name of KUBECONFIG's context, which is marked; raises KitError when it is not."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig:
        raise host.KitError(
            "KUBECONFIG is not set: `make cluster` prints the one of a cluster made here, "
            "or name the file of another test cluster"
        )
    if not any(Path(each).is_file() for each in kubeconfig.split(os.pathsep) if each):
        raise host.KitError(f"KUBECONFIG names {kubeconfig}, which is no file: is the cluster up?")
    program = kubectl()
    context = host.run([program, "config", "current-context"]).strip()
    words = f"--request-timeout=10s -n {NAMESPACE} get configmap {NAME} --ignore-not-found -o name"
    found = host.run([program, *words.split()])
    if not found.strip():
        raise host.KitError(
            f"the context {context!r} of {kubeconfig} is not marked as a test cluster, and tests "
            "create, break and delete things. If this cluster may be used up, mark it: "
            f"kubectl -n {NAMESPACE} create configmap {NAME}"
        )
    return context


def kubectl() -> Path:
    """The kubectl that was built here, or else the one on the PATH; raises KitError."""
    return _program("kubectl")


def helm() -> Path:
    """The helm that was built here, or else the one on the PATH; raises KitError."""
    return _program("helm")


def check_of_charts(name: str) -> Path:
    """kubeconform or kube-score, as `helm`."""
    return _program(name)


def _program(name: str) -> Path:
    cache = build.cache_directory()
    if not build.missing(cache):
        return build.binaries(cache)[name]
    if found := shutil.which(name):
        return Path(found)
    raise host.KitError(f"there is no {name}: install one, or `make cluster` to build it")


def made_here() -> names.Cluster | None:
    """The cluster of KUBECONFIG when the kit made it on this machine; its nodes can be broken."""
    path = Path(os.environ.get("KUBECONFIG", "")).absolute()
    if path.name != "kubeconfig" or path.parent.parent != names.STATE_ROOT:
        return None
    return names.cluster(path.parent.name)
