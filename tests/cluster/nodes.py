"""Start nodes of a cluster, break them, and remove them.

    add      start a node that is new or was removed; return when the node is Ready
    remove   remove a node with its pods and its Node object
    kill     simulate a power cut: disconnect the node's network first, so that no process can send
             a last message, then send SIGKILL to all processes of the node
    start    start a killed node as if its machine booted: the node has its files, but no process,
             mount or network is left from before; return when the node is Ready
    cut, mend        disconnect and reconnect the network; all processes of the node go on
    freeze, thaw     send SIGSTOP and SIGCONT to all processes of the node

node-0 shares its network namespace with the control plane, so it can only be cut and mended.
"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster import (
    certificates,
    cgroups,
    commands_here,
    component_commands,
    component_configs,
    component_processes,
    leftovers,
    names,
    network_namespaces,
    state_files,
)
from tests.cluster.component_configs import Smaller

PROCESSES = ("containerd", "kubelet", "kube-proxy")
READY_S_MAX = 60.0
CONTAINERD_S_MAX = 20.0
IMPORT_S_MAX = 600.0
# SIGSTOP is sent in several rounds: a process may start a child just before it is stopped, and
# only the next round finds that child.
FREEZE_ROUNDS = 3


def add(node: names.Node, *, zone: str = "", smaller: Smaller | None = None) -> None:
    """Add a node and wait until it is Ready; raises KitError."""
    _refuse_first(node, "added")
    if node.directory.exists():
        raise commands_here.KitError(
            f"{node.name} already exists: `start` it, or `remove` it first"
        )
    first = node.cluster.node(0)
    if not network_namespaces.joined(first):
        network_namespaces.join(first, [])
    configure(node, zone=zone, smaller=smaller or Smaller())
    boot(node)


def remove(node: names.Node) -> None:
    """Remove a node, its pods and its Node object, without draining the node first."""
    _refuse_first(node, "removed")
    _there(node)
    _power_off(node)
    leftovers.clear_boot(node)
    cluster = node.cluster
    state_files.kubectl(cluster, "delete", "node", node.name, "--ignore-not-found", "--timeout=20s")
    its = f"--field-selector=spec.nodeName={node.name}"
    state_files.kubectl(cluster, "delete", "pods", "-A", its, "--force", "--grace-period=0")
    others = [each for each in state_files.nodes(cluster) if each != node]
    network_namespaces.forget(node, others)
    leftovers.clear_outside(cluster)
    for file in (
        *cluster.state.glob(f"p*/{node.name}-*"),
        cluster.state / f"{node.name}-kubelet.conf",
    ):
        file.unlink(missing_ok=True)
    state_files.remove(node.directory)


def kill(node: names.Node) -> None:
    """Disconnect a node from the network and kill all its processes, as a power cut does."""
    _refuse_first(node, "killed")
    _there(node)
    _power_off(node)


def start(node: names.Node) -> None:
    """Start a node that was killed and wait until it is Ready; raises KitError."""
    _refuse_first(node, "started")
    _there(node)
    if cgroups.processes(_cgroup(node)):
        raise commands_here.KitError(f"{node.name} is running: `kill` it first")
    leftovers.clear_boot(node)
    boot(node)


def cut(node: names.Node) -> None:
    """Disconnect a node from the network; its processes go on."""
    network_namespaces.set_port(node, up=False)


def mend(node: names.Node) -> None:
    """Connect a node to the network again after `cut`."""
    network_namespaces.set_port(node, up=True)


def freeze(node: names.Node) -> None:
    """Suspend every process of a node with SIGSTOP."""
    _refuse_first(node, "frozen")
    _there(node)
    for _ in range(FREEZE_ROUNDS):
        cgroups.send(_cgroup(node), signal.SIGSTOP)


def thaw(node: names.Node) -> None:
    """Resume every process of a frozen node with SIGCONT."""
    _there(node)
    cgroups.send(_cgroup(node), signal.SIGCONT)


def import_image(cluster: names.Cluster, archive: Path) -> None:
    """Import an image archive into every node whose containerd runs; raises KitError."""
    state_files.read(cluster)
    if not archive.is_file():
        raise commands_here.KitError(f"there is no image archive {archive}")
    for node in state_files.nodes(cluster):
        if node.socket.exists():
            _ctr(node, "images", "import", str(archive.absolute()))


def configure(node: names.Node, *, zone: str, smaller: Smaller) -> None:
    """Write those files of a node that a reboot keeps: its certificate and configuration files."""
    cluster, timing = node.cluster, state_files.read(node.cluster).timing
    for name in ("kubelet", "cni", "pod-logs", "run"):
        (node.directory / name).mkdir(parents=True, exist_ok=True)
    issuer = certificates.read_authority(cluster.state / "pki", "ca")
    user = f"{node.name}-kubelet"
    certificates.leaf(
        cluster.state / "pki",
        issuer,
        user,
        f"system:node:{node.name}",
        organizations=("system:nodes",),
        addresses=(node.address,),
        dns_names=(node.name,),
    )
    state_files.write_kubeconfig(cluster, f"{user}.conf", user, state_files.api_url())
    files = {
        "containerd.toml": component_configs.containerd(node),
        "cni/10-bridge.conflist": component_configs.cni(node),
        "kubelet.json": component_configs.kubelet(node, timing, smaller),
        "proxy.json": component_configs.proxy(node),
        "node.json": json.dumps({"zone": zone or f"zone-{node.index}", **asdict(smaller)}),
    }
    for name, text in files.items():
        (node.directory / name).write_text(text, encoding="utf-8")


def boot(node: names.Node) -> None:
    """Start the network and processes of a configured node and wait until the node is Ready.

    Raises KitError.
    """
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    network_namespaces.make(node)
    network_namespaces.join(
        node, [each for each in state_files.nodes(node.cluster) if each != node]
    )
    start_runtime(node)
    start_agents(node)
    wait_ready(node, since)


def start_runtime(node: names.Node) -> None:
    """Start containerd, and import the image that every pod's sandbox container runs."""
    cgroups.make(_cgroup(node), cgroups.SYSTEM)
    _start(node, "containerd", component_commands.runtime(node))
    commands_here.until(
        f"containerd of {node.name} answers",
        lambda: commands_here.succeeds(["ctr", "-a", node.socket, "version"]),
        timeout_s=CONTAINERD_S_MAX,
    )
    if component_configs.PROBE_IMAGE not in _ctr(node, "images", "ls", "-q").split():
        _ctr(node, "images", "import", str(node.cluster.state / "probe.tar"))


def start_agents(node: names.Node) -> None:
    """Start the kubelet and kube-proxy of a node."""
    zone = json.loads((node.directory / "node.json").read_text(encoding="utf-8"))["zone"]
    programs = state_files.read(node.cluster).programs
    for name, command in component_commands.agents(node, programs, zone).items():
        _start(node, name, command)


def wait_ready(node: names.Node, since: str) -> None:
    """Wait until a node's Ready condition is true, with a heartbeat not before `since`.

    `since` is a UTC time such as "2026-01-31T12:00:00Z"; "" accepts any heartbeat.  The time
    matters because after a short absence of the node, the condition may still be true from before.
    Raises KitError when the node is not Ready in time.
    """
    condition = '{.status.conditions[?(@.type=="Ready")]'
    path = f"jsonpath={condition}.status}} {condition}.lastHeartbeatTime}}"

    def ready() -> bool:
        try:
            words = state_files.kubectl(node.cluster, "get", "node", node.name, "-o", path).split()
        except commands_here.KitError:
            return False
        return len(words) == 2 and words[0] == "True" and words[1] >= since

    commands_here.until(f"{node.name} is Ready", ready, timeout_s=READY_S_MAX)


def _start(node: names.Node, name: str, command: list[str]) -> None:
    component_processes.start(
        node.cluster,
        f"{node.name}-{name}",
        command,
        namespace=node.namespace,
        cgroup=f"{_cgroup(node)}/{cgroups.SYSTEM}",
    )


def _power_off(node: names.Node) -> None:
    network_namespaces.unplug(node)
    cgroups.kill(_cgroup(node))


def _ctr(node: names.Node, *arguments: str) -> str:
    command: list[str | Path] = ["ctr", "-a", node.socket, "-n", "k8s.io", *arguments]
    return commands_here.run(command, timeout_s=IMPORT_S_MAX)


def _cgroup(node: names.Node) -> str:
    return f"{node.cluster.label}/{node.name}"


def _there(node: names.Node) -> None:
    if not node.directory.exists():
        known = ", ".join(each.name for each in state_files.nodes(node.cluster))
        raise commands_here.KitError(
            f"the cluster {node.cluster.name} has no {node.name}; its nodes: {known}"
        )


def _refuse_first(node: names.Node, verb: str) -> None:
    if node.index == 0:
        raise commands_here.KitError(
            f"node-0 runs the control plane and cannot be {verb}: choose another node"
        )
