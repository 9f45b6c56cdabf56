"""Names, addresses and paths of a test cluster and its nodes.  Pure.

Everything that a cluster makes outside its state directory carries its label, `midstreamer-NAME`:
network namespaces, cgroups, CNI networks.  A dot follows the label where more names are needed,
and no NAME has a dot, so that the cluster `a` never takes `a-b` for a part of itself.

Each cluster has the whole of 198.18.0.0/15 in namespaces of its own.  That range is for
benchmarks (RFC 2544) and meets no real network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STATE_ROOT = Path("/var/lib/midstreamer-cluster")
LOCK_ROOT = Path("/run/lock")
PREFIX = "midstreamer-"
NAME_DEFAULT = "test"
# The kubelet has unix sockets below a node's directory, and Linux allows them 107 characters.
NAME_LENGTH_MAX = 20
NODES_MAX = 100

PODS = "198.18.0.0/16"
SERVICES = "198.19.0.0/24"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_ADDRESS = "198.19.0.10"
API_ADDRESS = "198.19.255.1"
API_PORT = 6443
OUTSIDE_ADDRESS = "198.19.255.254"

_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{NAME_LENGTH_MAX - 1}}}")
_NODE = re.compile(r"node-(0|[1-9][0-9]?)")


class NameRefused(ValueError):
    """A name of a cluster or node that cannot be used; the message says why."""


@dataclass(frozen=True)
class Node:
    """One node; node-0 shares its network namespace with the control plane."""

    cluster: Cluster
    index: int

    @property
    def name(self) -> str:
        """As Kubernetes knows it."""
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        """Where the kubelet listens, and the source of what the node sends."""
        return f"198.19.255.{self.index + 1}"

    @property
    def pods(self) -> str:
        """The addresses of its pods."""
        return f"198.18.{self.index}.0/24"

    @property
    def directory(self) -> Path:
        """Its disk: containerd, kubelet, logs of pods."""
        return self.cluster.state / "nodes" / self.name

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        label = self.cluster.label
        return label if self.index == 0 else f"{label}.{self.name}"

    @property
    def network(self) -> str:
        """Its CNI network; the plugins keep results by this name outside the state directory."""
        return f"{self.cluster.label}.{self.name}"

    @property
    def port(self) -> str:
        """Its port of the switch that joins the nodes."""
        return f"port{self.index}"

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.directory / "run/containerd.sock"


@dataclass(frozen=True)
class Cluster:
    """One cluster: its name, and the directory with all that it writes."""

    name: str
    state: Path

    @property
    def label(self) -> str:
        """Its network namespace and cgroup, and the beginning of all its other names."""
        return PREFIX + self.name

    @property
    def switch(self) -> str:
        """The namespace with the bridge between the nodes."""
        return f"{self.label}.switch"

    @property
    def outside(self) -> str:
        """The namespace of clients: it reaches the nodes, as a neighbour, and no pod."""
        return f"{self.label}.outside"

    @property
    def kubeconfig(self) -> Path:
        """For people and tests, inside and outside the namespace."""
        return self.state / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held while the cluster is brought up or taken down; outlives the state directory."""
        return LOCK_ROOT / f"{self.label}.lock"

    def node(self, index: int) -> Node:
        """The node with this index."""
        return Node(self, index)

    def owns_namespace(self, namespace: str) -> bool:
        """Whether a network namespace of the machine is this cluster's."""
        return namespace == self.label or namespace.startswith(f"{self.label}.")


def cluster(name: str, root: Path = STATE_ROOT) -> Cluster:
    """The cluster of this name; raises NameRefused."""
    if not _NAME.fullmatch(name):
        raise NameRefused(
            f"the cluster's name {name!r} is not usable: take up to {NAME_LENGTH_MAX} lower case "
            "letters, digits and hyphens, a letter first"
        )
    return Cluster(name, root / name)


def node_index(name: str) -> int:
    """The index of a node by its name; raises NameRefused."""
    found = _NODE.fullmatch(name)
    if not found:
        raise NameRefused(
            f"no node can be called {name!r}: nodes are node-0 to node-{NODES_MAX - 1}"
        )
    return int(found[1])


def cni_results(cluster: Cluster, files: list[str]) -> list[str]:
    """Which result files of the CNI plugins, by their names, belong to this cluster's pods.

    A pod that is killed, not deleted, leaves one of its node's network and one of its loopback.
    """
    mine = re.compile(re.escape(cluster.label) + r"\.node-\d+-([0-9a-f]{64})-eth0")
    pods = {found[1] for file in files if (found := mine.fullmatch(file))}
    loopbacks = {f"cni-loopback-{pod}-lo" for pod in pods}
    return [file for file in files if mine.fullmatch(file) or file in loopbacks]
