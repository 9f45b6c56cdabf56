"""Kill what runs in a pod, from outside the pod: no last word, no grace period, no API call.

The pod stays and its kubelet starts the containers again, as after a crash.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from tests.cluster import cgroups, host, names, state


def kill_pod(cluster: names.Cluster, namespace: str, pod: str) -> list[int]:
    """Kill every process in a pod's containers; returns their ids.  Raises KitError."""
    told = state.kubectl(cluster, "-n", namespace, "get", "pod", pod, "-o", "json")
    found = json.loads(told)
    node = cluster.node(names.node_index(found["spec"]["nodeName"]))
    below = f"{cluster.label}/{node.name}"
    killed = cgroups.processes_of(below, containers(found))
    if not killed:
        raise host.KitError(f"nothing runs in the containers of pod {namespace}/{pod}")
    for process in killed:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended with the one before
    return killed


def containers(pod: dict[str, Any]) -> frozenset[str]:
    """The ids of a pod's containers that run, without its sandbox; empty before they do."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    running = [each["containerID"] for each in statuses if "running" in each.get("state", {})]
    return frozenset(each.rpartition("/")[2] for each in running)
