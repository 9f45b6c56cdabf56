"""Check that a cluster is marked as a test cluster; tests run on no other cluster.

The mark is a ConfigMap in the namespace kube-system.  Only an administrator can make it there, and
nobody makes it by accident on a cluster that is in use.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.cluster import commands_here, names, program_builds

NAMESPACE = "kube-system"
NAME = "midstreamer-test-cluster"


def manifest() -> str:
    """Return the manifest of the ConfigMap that marks a cluster for tests."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def check() -> str:
    """Return the name of KUBECONFIG's context; raises KitError when its cluster is not marked."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig:
        raise commands_here.KitError(
            "KUBECONFIG is not set: set it to the path that `make cluster` prints, "
            "or to the kubeconfig of another test cluster"
        )
    if not any(Path(each).is_file() for each in kubeconfig.split(os.pathsep) if each):
        raise commands_here.KitError(
            f"KUBECONFIG names {kubeconfig}, which is no file: start the cluster, or set KUBECONFIG"
            " to another file"
        )
    program = kubectl()
    context = commands_here.run([program, "config", "current-context"]).strip()
    words = f"--request-timeout=10s -n {NAMESPACE} get configmap {NAME} --ignore-not-found -o name"
    found = commands_here.run([program, *words.split()])
    if not found.strip():
        raise commands_here.KitError(
            f"the context {context!r} of {kubeconfig} is not marked as a test cluster, and tests "
            "create, break and delete objects. If tests may do so in this cluster, mark it: "
            f"kubectl -n {NAMESPACE} create configmap {NAME}"
        )
    return context


def kubectl() -> Path:
    """Return the path of kubectl: the one that the kit built, else the one on PATH.

    Raises KitError when neither exists.
    """
    return _program("kubectl")


def helm() -> Path:
    """Return the path of helm: the one that the kit built, else the one on PATH.

    Raises KitError when neither exists.
    """
    return _program("helm")


def check_of_charts(name: str) -> Path:
    """Return the path of a chart checker; `name` is "kubeconform" or "kube-score".

    It is the one that the kit built, else the one on PATH; raises KitError when neither exists.
    """
    return _program(name)


def _program(name: str) -> Path:
    cache = program_builds.cache_directory()
    if not program_builds.missing(cache):
        return program_builds.binaries(cache)[name]
    if found := shutil.which(name):
        return Path(found)
    raise commands_here.KitError(
        f"{name} is not installed: install it, or run `make cluster` to build it"
    )


def made_here() -> names.Cluster | None:
    """Return KUBECONFIG's cluster if the kit made it on this machine, else None.

    Only in such a cluster can tests break nodes and processes.
    """
    path = Path(os.environ.get("KUBECONFIG", "")).absolute()
    if path.name != "kubeconfig" or path.parent.parent != names.STATE_ROOT:
        return None
    return names.cluster(path.parent.name)
