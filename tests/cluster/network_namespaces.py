"""Make the network namespaces of a cluster, and connect them.

Each node has a network namespace.  One more namespace, the switch, has a bridge with a port for
each node; setting a port down disconnects its node.  Static routes lead to the pods of other nodes.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import commands_here, component_commands, names

NAMESPACES = Path("/run/netns")
UPLINK = "uplink0"
TRIAL_SOURCE, TRIAL_TARGET = "192.0.2.1", "192.0.2.2"


def exists(namespace: str) -> bool:
    """Whether the machine has a network namespace of this name."""
    return (NAMESPACES / namespace).exists()


def of_cluster(cluster: names.Cluster) -> list[str]:
    """Return the names of the cluster's network namespaces that exist on the machine."""
    existing = sorted(path.name for path in NAMESPACES.iterdir()) if NAMESPACES.is_dir() else []
    return [namespace for namespace in existing if cluster.owns_namespace(namespace)]


def remove(namespace: str) -> None:
    """Remove a network namespace, if it exists."""
    if exists(namespace):
        commands_here.run(["ip", "netns", "delete", namespace])


def _ip(namespace: str, words: str) -> None:
    commands_here.run(["ip", "-n", namespace, *words.split()])


def make(node: names.Node) -> None:
    """Make a node's network namespace, with its address and a route to Services."""
    commands_here.run(["ip", "netns", "add", node.namespace])
    _ip(node.namespace, f"address add {node.address}/32 dev lo")
    _ip(node.namespace, "link set lo up")
    forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    commands_here.run(component_commands.inside(node.namespace, ["sh", "-c", forwarding]))
    # Without this route, a process on the node cannot send to a ClusterIP; UDP fails without an
    # error.
    _ip(node.namespace, f"route add {names.SERVICES} dev lo src {node.address}")


def join(node: names.Node, others: list[names.Node]) -> None:
    """Connect a node to the switch, and make routes between it and the other nodes."""
    _make_switch(node.cluster)
    unplug(node)
    _plug(node.cluster, node.port, node.namespace, node.address)
    for other in others:
        if exists(other.namespace):
            _route(node, other)
            _route(other, node)


def make_outside(cluster: names.Cluster) -> None:
    """Make the network namespace of clients, if it does not exist.

    It has an address in the network of the nodes, and no route to pods or Services.
    """
    if exists(cluster.outside):
        return
    first = cluster.node(0)
    if not joined(first):
        join(first, [])
    commands_here.run(["ip", "netns", "add", cluster.outside])
    _ip(cluster.outside, "link set lo up")
    _plug(cluster, "outside", cluster.outside, names.OUTSIDE_ADDRESS)


def _make_switch(cluster: names.Cluster) -> None:
    switch = cluster.switch
    if not exists(switch):
        commands_here.run(["ip", "netns", "add", switch])
        _ip(switch, "link set lo up")
        _ip(switch, "link add switch0 type bridge")
        _ip(switch, "link set switch0 up")


def _plug(cluster: names.Cluster, port: str, namespace: str, address: str) -> None:
    switch = cluster.switch
    _ip(switch, f"link add {port} type veth peer name {UPLINK} netns {namespace}")
    _ip(switch, f"link set {port} master switch0 up")
    _ip(namespace, f"address add {address}/24 dev {UPLINK}")
    _ip(namespace, f"link set {UPLINK} up")


def joined(node: names.Node) -> bool:
    """Whether a node is connected to a port of the switch."""
    return commands_here.succeeds(["ip", "-n", node.namespace, "link", "show", UPLINK])


def _route(source: names.Node, target: names.Node) -> None:
    if joined(source):
        way = f"via {target.address} dev {UPLINK} onlink"
        _ip(source.namespace, f"route replace {target.pods} {way}")


def unplug(node: names.Node) -> None:
    """Delete a node's port of the switch, if it has one."""
    commands_here.succeeds(["ip", "-n", node.cluster.switch, "link", "delete", node.port])


def forget(node: names.Node, others: list[names.Node]) -> None:
    """Delete the port of a removed node, and the other nodes' routes to its pods."""
    unplug(node)
    for other in others:
        commands_here.succeeds(["ip", "-n", other.namespace, "route", "delete", node.pods])


def set_port(node: names.Node, *, up: bool) -> None:
    """Set a node's port of the switch up or down; raises KitError when there is no such port."""
    if not joined(node):
        raise commands_here.KitError(
            f"{node.name} has no port of the switch: the node was killed, or does not exist, or is"
            " the only node of the cluster"
        )
    _ip(node.cluster.switch, f"link set {node.port} {'up' if up else 'down'}")


def bridged_traffic_is_filtered(cluster: names.Cluster) -> bool:
    """Whether iptables rules are applied to packets between two pods of one bridge.

    They are if the kernel has br_netfilter. Otherwise NetworkPolicies between pods of one node
    cannot be enforced. The function sends packets to find out.
    """
    commands_here.succeeds(["modprobe", "br_netfilter"])  # may fail: the module may be built in
    here = cluster.label
    pods = {f"{here}.trial0": TRIAL_SOURCE, f"{here}.trial1": TRIAL_TARGET}
    rule = f"FORWARD -d {TRIAL_TARGET} -p udp -j ACCEPT".split()
    try:
        _ip(here, "link add trial type bridge")
        _ip(here, "link set trial up")
        for index, (pod, address) in enumerate(pods.items()):
            _trial_pod(here, pod, index, address)
        first, _ = pods
        _ip(first, f"neighbour add {TRIAL_TARGET} lladdr {_hardware(1)} dev eth0")
        commands_here.run(component_commands.inside(here, ["iptables", "-w", "-I", *rule]))
        commands_here.until(
            "the bridge for the test of br_netfilter forwards packets",
            lambda: _port_forwards(here, "trial-port0") and _port_forwards(here, "trial-port1"),
            timeout_s=20,
        )
        packets = f"for i in 1 2 3; do echo x > /dev/udp/{TRIAL_TARGET}/9; done"
        commands_here.run(component_commands.inside(first, ["bash", "-c", packets]))
        counted = commands_here.run(
            component_commands.inside(here, ["iptables", "-w", "-nvxL", "FORWARD"])
        )
        commands_here.run(component_commands.inside(here, ["iptables", "-w", "-D", *rule]))
    finally:
        commands_here.succeeds(["ip", "-n", here, "link", "delete", "trial"])
        for pod in pods:
            remove(pod)
    return packets_counted(counted, TRIAL_TARGET) > 0


def packets_counted(listing: str, target: str) -> int:
    """Return how many packets matched the iptables rules for the destination address `target`.

    `listing` is the output of `iptables -nvxL`, which shows the count of each rule.
    """
    rows = [line.split() for line in listing.splitlines() if target in line.split()]
    return sum(int(row[0]) for row in rows)


def _trial_pod(bridge_namespace: str, pod: str, index: int, address: str) -> None:
    port = f"trial-port{index}"
    commands_here.run(["ip", "netns", "add", pod])
    _ip(bridge_namespace, f"link add {port} type veth peer name eth0 netns {pod}")
    _ip(bridge_namespace, f"link set {port} master trial up")
    _ip(pod, f"link set eth0 address {_hardware(index)}")
    _ip(pod, f"address add {address}/24 dev eth0")
    _ip(pod, "link set eth0 up")


def _port_forwards(namespace: str, port: str) -> bool:
    return "state forwarding" in commands_here.run(
        ["ip", "-n", namespace, "-d", "link", "show", port]
    )


def _hardware(index: int) -> str:
    return f"02:00:00:00:00:0{index + 1}"
