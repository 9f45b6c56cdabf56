"""Tests run only on a cluster that is marked as a test cluster.

The mark is a ConfigMap in kube-system: only an administrator can set it, and nobody sets it on a
cluster that he wants to keep by accident.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.cluster import build, host

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
    cache = build.cache_directory()
    if not build.missing(cache):
        return build.binaries(cache)["kubectl"]
    if found := shutil.which("kubectl"):
        return Path(found)
    raise host.KitError("there is no kubectl: install one, or `make cluster` to build it")
