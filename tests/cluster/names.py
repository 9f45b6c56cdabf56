"""Names, addresses and paths of a test cluster and its nodes.  Pure.

Everything that a cluster makes outside its state directory (network namespaces, cgroups, CNI
networks) has a name that begins with the cluster's label, "midstreamer-NAME".  In longer names
a dot follows the label, as in "midstreamer-NAME.switch".  No NAME contains a dot.  So the names of
the cluster "a" are "midstreamer-a" and those that begin with "midstreamer-a.", and the cluster
never mistakes "midstreamer-a-b.switch" of the cluster "a-b" for its own.

Each cluster uses the whole of 198.18.0.0/15 in its own network namespaces.  That range is reserved
for benchmarks (RFC 2544), so it does not overlap with a real network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STATE_ROOT = Path("/var/lib/midstreamer-cluster")
LOCK_ROOT = Path("/run/lock")
PREFIX = "midstreamer-"
NAME_DEFAULT = "test"
# The kubelet makes unix sockets below a node's directory; Linux limits their paths to 107
# characters, so the name of a cluster must be short.
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
    """The name of a cluster or node is invalid; the message says why."""


@dataclass(frozen=True)
class Node:
    """One node of a cluster; node-0 shares its network namespace with the control plane."""

    cluster: Cluster
    index: int

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        """The node's IP address: its kubelet listens there, and its packets come from there."""
        return f"198.19.255.{self.index + 1}"

    @property
    def pods(self) -> str:
        """The IP range of the node's pods."""
        return f"198.18.{self.index}.0/24"

    @property
    def directory(self) -> Path:
        """The directory of the node's files: containerd, kubelet, logs of pods."""
        return self.cluster.state / "nodes" / self.name

    @property
    def namespace(self) -> str:
        """The name of the node's network namespace."""
        label = self.cluster.label
        return label if self.index == 0 else f"{label}.{self.name}"

    @property
    def network(self) -> str:
        """The name of the node's CNI network.

        The CNI plugins store their results under this name, outside the cluster's state directory.
        """
        return f"{self.cluster.label}.{self.name}"

    @property
    def port(self) -> str:
        """The name of the port that connects the node to the bridge between the nodes."""
        return f"port{self.index}"

    @property
    def socket(self) -> Path:
        """The path of the unix socket where the node's containerd listens."""
        return self.directory / "run/containerd.sock"


@dataclass(frozen=True)
class Cluster:
    """One cluster: its name, and the directory with all files of its state."""

    name: str
    state: Path

    @property
    def label(self) -> str:
        """The name of the cluster's network namespace and cgroup.

        The names of the cluster's other network namespaces, cgroups and CNI networks begin with it.
        """
        return PREFIX + self.name

    @property
    def switch(self) -> str:
        """The name of the network namespace with the bridge between the nodes."""
        return f"{self.label}.switch"

    @property
    def outside(self) -> str:
        """The name of the network namespace in which clients outside the cluster run.

        From there, clients reach the nodes, but no pod.
        """
        return f"{self.label}.outside"

    @property
    def kubeconfig(self) -> Path:
        """The path of the kubeconfig for people and tests.

        The kubeconfig works inside and outside the cluster's network namespace.
        """
        return self.state / "kubeconfig"

    @property
    def lock(self) -> Path:
        """The path of the lock file that is held while the cluster is started or removed.

        The lock file lies outside the state directory, because that directory is removed.
        """
        return LOCK_ROOT / f"{self.label}.lock"

    def node(self, index: int) -> Node:
        """Return the node with this index."""
        return Node(self, index)

    def owns_namespace(self, namespace: str) -> bool:
        """Whether the network namespace of this name belongs to this cluster."""
        return namespace == self.label or namespace.startswith(f"{self.label}.")


def cluster(name: str, root: Path = STATE_ROOT) -> Cluster:
    """Return the cluster with this name; raises NameRefused when the name is invalid."""
    if not _NAME.fullmatch(name):
        raise NameRefused(
            f"the cluster's name {name!r} is invalid: use up to {NAME_LENGTH_MAX} lower case "
            "letters, digits and hyphens, beginning with a letter"
        )
    return Cluster(name, root / name)


def node_index(name: str) -> int:
    """Return the index of a node from its name; raises NameRefused when the name is invalid."""
    found = _NODE.fullmatch(name)
    if not found:
        raise NameRefused(
            f"{name!r} is no name of a node: nodes are called node-0 to node-{NODES_MAX - 1}"
        )
    return int(found[1])


def cni_results(cluster: Cluster, files: list[str]) -> list[str]:
    """Return those of the CNI plugins' result files that belong to pods of this cluster.

    `files` are the names of all result files on the machine. Each pod has two of them: one for the
    node's network, and one for the pod's loopback interface. They are left over when a pod is
    killed instead of deleted.
    """
    mine = re.compile(re.escape(cluster.label) + r"\.node-\d+-([0-9a-f]{64})-eth0")
    pods = {found[1] for file in files if (found := mine.fullmatch(file))}
    loopbacks = {f"cni-loopback-{pod}-lo" for pod in pods}
    return [file for file in files if mine.fullmatch(file) or file in loopbacks]
