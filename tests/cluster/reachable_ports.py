"""Try which sources reach which ports of a release, and say which connections should be allowed.

    with reachable_ports.visitors(release) as visiting:
        visiting.expected()      the connections that the chart's NetworkPolicies should allow
        visiting.tried()         the connections that work, tried from pods, node-0 and outside

A `Table` says for each pair of a source and a target whether the source reaches the target.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import (
    cluster_guard,
    commands_here,
    component_commands,
    names,
    network_namespaces,
    pods,
    releases,
)
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import COMPONENT, INSTANCE, PYTHON, Release

Table = dict[tuple[str, str], bool]

TEXT = (Path(__file__).parent / "port_probe.py").read_text(encoding="utf-8")
AT_ONCE = 4
SETTLE_S_MAX = 30.0
COLLECTOR_PORT, OPEN_PORT, KUBELET_PORT = 4317, 8080, 10250
SERVE = """
import socket, sys, threading
def serve(port):
    with socket.create_server(("", port)) as listening:
        while True:
            listening.accept()[0].close()
for port in sys.argv[1:]:
    threading.Thread(target=serve, args=(int(port),)).start()
"""
KINDS = ("agent", "coordinator", "sync", "postgres", "operator")
HEALTH = tuple(f"{kind} health" for kind in KINDS)
NAMES = {"dns", "dns tcp"}
EVERYBODYS = {"api", "collector", "stranger", "kubelet", *NAMES}
"""Targets that a pod reaches if no NetworkPolicy limits the pod's outgoing connections."""
MEANT: dict[str, set[str]] = {
    "agent": {"sync", "coordinator", "api", "collector", *NAMES},
    "coordinator": {"sync", "api", "collector", *NAMES},
    "sync": {"postgres", "api", "collector", *NAMES},
    "postgres": {"api", "collector"},
    "operator": {"api", "collector"},
    "test": {"coordinator", "api", "collector", *NAMES},
    "client": {"coordinator", "coordinator outside", "service", *EVERYBODYS},
    "collector": {*HEALTH, *EVERYBODYS},
    "neighbour": EVERYBODYS,
    "stranger": EVERYBODYS,
    "outside": {"service", "kubelet"},
}
"""For each source, the targets that it should reach; it should reach no other target.

The source "node-0" is missing here, because what a node reaches depends on the target's node.
"""


@dataclass(frozen=True)
class Place:
    """A place from which ports are tried: a pod, or a network namespace of the machine."""

    kubernetes: Kubernetes | None
    pod: str
    namespace: str = ""

    def run(self, *words: str) -> str:
        """Run Python there with these arguments and return its output; raises KitError."""
        if self.kubernetes is None:
            return commands_here.run(
                component_commands.inside(self.namespace, [sys.executable, *words])
            )
        return self.kubernetes("exec", self.pod, "--", PYTHON, *words)


@dataclass(frozen=True)
class Target:
    """A port to try; `pod` and `node` are empty when the port belongs to no pod."""

    kind: str
    address: str
    port: int
    pod: str = ""
    node: str = ""


@dataclass(frozen=True)
class Visitors:
    """The sources and targets for a test of one release.

    A source is a place that tries to reach ports; a target is one of these ports.
    """

    release: Release
    sources: Mapping[str, Place]
    targets: Mapping[str, Target]

    def expected(self) -> Table:
        """Return which sources should reach which targets."""
        return {pair: self._meant(*pair) for pair in self._pairs()}

    def tried(self, sources: Collection[str] = ()) -> Table:
        """Try which sources reach which targets; `sources` limits the sources if it is given."""
        with ThreadPoolExecutor(AT_ONCE) as trying:
            rows = list(trying.map(self._row, sources or self.sources))
        return {pair: open_ for row in rows for pair, open_ in row.items()}

    def settled(self, wanted: Table, sources: Collection[str] = ()) -> None:
        """Wait until `tried` gives the wanted table; raises KitError with the pairs that differ."""
        commands_here.eventually(
            "ports are open and closed as expected",
            lambda: differences(wanted, self.tried(sources)),
            lambda found: not found,
            timeout_s=SETTLE_S_MAX,
        )

    def _row(self, source: str) -> Table:
        mine = [target for each, target in self._pairs() if each == source]
        ways = [self.targets[target] for target in mine]
        asked = json.dumps([[way.kind, way.address, way.port] for way in ways])
        answers = json.loads(self.sources[source].run("-c", TEXT, asked))
        return {(source, target): open_ for target, open_ in zip(mine, answers, strict=True)}

    def _pairs(self) -> list[tuple[str, str]]:
        """Return all pairs of a source and a target, except where both are the same pod."""
        return [
            (source, target)
            for source, place in self.sources.items()
            for target, way in self.targets.items()
            if not place.pod or place.pod != way.pod
        ]

    def _meant(self, source: str, target: str) -> bool:
        if source == "node-0":
            # A node always reaches its own pods. For pods of other nodes, the policies treat it
            # like the source "outside".
            port = self.targets[target]
            return port.node in ("node-0", "") or target in ("coordinator outside", *EVERYBODYS)
        return target in MEANT[source]


def differences(wanted: Table, found: Table) -> list[str]:
    """Return a line for each pair that differs in two tables, with its state in `found`."""
    return [
        f"{source} to {target}: {'open' if found[source, target] else 'closed'}"
        for source, target in found
        if wanted[source, target] != found[source, target]
    ]


def markdown(table: Table) -> str:
    """Return a table as Markdown, with a row for each source and a column for each target."""
    targets = list(dict.fromkeys(target for _, target in table))
    lines = [f"| from | {' | '.join(targets)} |", f"|---|{'---|' * len(targets)}"]
    marks = {True: "open", False: "–", None: ""}
    for source in dict.fromkeys(source for source, _ in table):
        cells = [marks[table.get((source, target))] for target in targets]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


@contextmanager
def visitors(release: Release) -> Iterator[Visitors]:
    """Make pods in the release's namespace and in three new namespaces; delete them at the end.

    Of the new namespaces, one is labelled for clients and one for the collector of metrics and
    traces. The third has no label, so its pods may not connect to the release.
    """
    kubectl = release.kubernetes
    label = {f"midstreamer.dev/{release.namespace}.{release.name}": "client"}
    kinds: dict[str, dict[str, str]] = {
        "client": label,
        "collector": release.monitoring,
        "stranger": {},
    }
    word = secrets.token_hex(3)
    spaces = {kind: Kubernetes(kubectl.program, f"midstreamer-{kind}-{word}") for kind in kinds}
    helper = {INSTANCE: release.name, COMPONENT: "test"}
    own = {"test": helper, "neighbour": {}}
    planned = {**{kind: (spaces[kind], {}) for kind in kinds},
            **{name: (kubectl, labels) for name, labels in own.items()}}  # fmt: skip
    try:
        for kind, space in spaces.items():
            space("create", "namespace", space.namespace)
            words = [f"{key}={value}" for key, value in kinds[kind].items()]
            space("label", "namespace", space.namespace, "midstreamer-test=door", *words)
        for name, (space, labels) in planned.items():
            space("apply", "-f", "-", stdin=json.dumps(_visitor(name, labels)))
        for name, (space, _) in planned.items():
            space("wait", "--for=condition=Ready", f"pod/{_pod_name(name)}", "--timeout=60s")
        yield _arranged(release, {name: space for name, (space, _) in planned.items()})
    finally:
        for space in spaces.values():
            space("delete", "namespace", space.namespace, "--wait=false", "--ignore-not-found")
        for name in own:
            kubectl("delete", "pod", _pod_name(name), "--ignore-not-found", "--timeout=30s")


def _pod_name(name: str) -> str:
    return f"door-{name}"


def _visitor(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return a pod of this project's image, in which Python listens on two ports."""
    pod = pods.pod(_pod_name(name))
    pod["metadata"]["labels"] |= labels
    pod["spec"]["automountServiceAccountToken"] = False
    (container,) = pod["spec"]["containers"]
    images = releases.images()
    container |= {
        "image": f"{images['registry'] or 'localhost'}/midstreamer:{images['tag']}",
        "imagePullPolicy": images["pullPolicy"],
        "command": [PYTHON],
        "args": ["-c", SERVE, str(COLLECTOR_PORT), str(OPEN_PORT)],
    }
    return pod


def _arranged(release: Release, spaces: Mapping[str, Kubernetes]) -> Visitors:
    """Choose sources and targets: the first pod of each kind is a source, the last a target.

    So where a kind has two pods, no pod connects to itself.
    """
    kubectl = release.kubernetes
    fleet = {kind: sorted(release.pods(kind), key=_name) for kind in KINDS}
    sources = {kind: Place(kubectl, _name(found[0])) for kind, found in fleet.items()}
    sources |= {name: Place(space, _pod_name(name)) for name, space in spaces.items()}
    last = {kind: found[-1] for kind, found in fleet.items()}
    targets = {
        "coordinator": _target("quic", last["coordinator"], 7400),
        "coordinator outside": _target("quic", last["coordinator"], 7401),
        "coordinator wss": _target("tcp", last["coordinator"], 7401),
        "sync": _target("quic", last["sync"], 7450),
        "postgres": _target("tcp", last["postgres"], 5432),
        **{f"{kind} health": _target("tcp", pod, 9090) for kind, pod in last.items()},
    }
    dns = kubectl.get("service/kube-dns", "--namespace=kube-system")["spec"]["clusterIP"]
    api = kubectl.get("service/kubernetes", "--namespace=default")["spec"]["clusterIP"]
    targets |= {
        "api": Target("tcp", api, 443),
        "dns": Target("dns", dns, 53),
        "dns tcp": Target("tcp", dns, 53),
    }
    for name, port in (("collector", COLLECTOR_PORT), ("stranger", OPEN_PORT)):
        targets[name] = _target("tcp", spaces[name].get(f"pod/{_pod_name(name)}"), port)
    if cluster := cluster_guard.made_here():
        network_namespaces.make_outside(cluster)
        sources["node-0"] = Place(None, "", cluster.label)
        sources["outside"] = Place(None, "", cluster.outside)
        targets["kubelet"] = Target("tcp", names.API_ADDRESS, KUBELET_PORT)
        ports = kubectl.get(f"service/{release.name}")["spec"]["ports"]
        targets["service"] = Target("quic", names.API_ADDRESS, ports[0]["nodePort"])
    return Visitors(release, sources, targets)


def _target(kind: str, pod: dict[str, Any], port: int) -> Target:
    return Target(kind, pod["status"]["podIP"], port, _name(pod), pod["spec"]["nodeName"])


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])
