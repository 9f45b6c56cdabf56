"""Kill what runs in a pod, from outside the pod: no last word, no grace period, no API call.

The pod stays and its kubelet starts the containers again, as after a crash.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster import cgroups, host, names, state


def kill_pod(cluster: names.Cluster, namespace: str, pod: str) -> list[int]:
    """Kill every process in a pod's containers; returns their ids.  Raises KitError."""
    return _signalled(_processes(cluster, namespace, pod), signal.SIGKILL)


@contextmanager
def frozen(cluster: names.Cluster, namespace: str, pod: str) -> Iterator[None]:
    """The processes of a pod stand still while inside: nothing answers, nothing is closed.

    Raises KitError.
    """
    processes = _processes(cluster, namespace, pod)
    _signalled(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signalled(processes, signal.SIGCONT)


def _processes(cluster: names.Cluster, namespace: str, pod: str) -> list[int]:
    told = state.kubectl(cluster, "-n", namespace, "get", "pod", pod, "-o", "json")
    found = json.loads(told)
    node = cluster.node(names.node_index(found["spec"]["nodeName"]))
    below = f"{cluster.label}/{node.name}"
    running = list(cgroups.processes_of(below, containers(found)))
    if not running:
        raise host.KitError(f"nothing runs in the containers of pod {namespace}/{pod}")
    return running


def _signalled(processes: list[int], number: signal.Signals) -> list[int]:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass  # it ended with the one before
    return processes


def containers(pod: dict[str, Any]) -> frozenset[str]:
    """The ids of a pod's containers that run, without its sandbox; empty before they do."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    running = [each["containerID"] for each in statuses if "running" in each.get("state", {})]
    return frozenset(each.rpartition("/")[2] for each in running)
