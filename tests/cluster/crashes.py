"""Kill or freeze the processes of a pod by signals, from outside the pod, to simulate a crash.

A killed process cannot send a last message, and gets no grace period; the API server is not
involved.  The pod stays, and its kubelet starts the containers again.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster import cgroups, commands_here, names, state_files


def kill_pod(cluster: names.Cluster, namespace: str, pod: str) -> list[int]:
    """Send SIGKILL to every process in a pod's containers; return the process ids.

    Raises KitError.
    """
    return _signalled(_processes(cluster, namespace, pod), signal.SIGKILL)


@contextmanager
def frozen(cluster: names.Cluster, namespace: str, pod: str) -> Iterator[None]:
    """Suspend the processes of a pod with SIGSTOP inside the block, then resume them.

    While they are suspended, they answer no request and their connections stay open.  Raises
    KitError.
    """
    processes = _processes(cluster, namespace, pod)
    _signalled(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signalled(processes, signal.SIGCONT)


def _processes(cluster: names.Cluster, namespace: str, pod: str) -> list[int]:
    text = state_files.kubectl(cluster, "-n", namespace, "get", "pod", pod, "-o", "json")
    found = json.loads(text)
    node = cluster.node(names.node_index(found["spec"]["nodeName"]))
    below = f"{cluster.label}/{node.name}"
    running = list(cgroups.processes_of(below, containers(found)))
    if not running:
        raise commands_here.KitError(f"no process runs in the containers of pod {namespace}/{pod}")
    return running


def _signalled(processes: list[int], number: signal.Signals) -> list[int]:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass  # ended already: when a container's first process is killed, its others end too
    return processes


def containers(pod: dict[str, Any]) -> frozenset[str]:
    """Return the ids of a pod's running containers, without its sandbox container."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    running = [each["containerID"] for each in statuses if "running" in each.get("state", {})]
    return frozenset(each.rpartition("/")[2] for each in running)
