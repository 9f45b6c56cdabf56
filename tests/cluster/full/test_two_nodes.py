"""A release on two nodes: spread over both, and whole again while one takes no pods.

Needs a cluster of two nodes or more: `make cluster NODES=2`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import doors, host
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SPREAD = ("agent", "coordinator", "sync", "operator")


@pytest.fixture(autouse=True)
def nodes(kubernetes: Kubernetes) -> list[str]:
    """The names of the nodes."""
    there = [str(node["metadata"]["name"]) for node in kubernetes.get("nodes")["items"]]
    if len(there) < 2:
        pytest.skip("needs two nodes: `make cluster NODES=2`")
    return there


@pytest.fixture
def cordoned(kubernetes: Kubernetes, nodes: list[str]) -> Iterator[str]:
    """A node that takes no new pod; it does again after the test."""
    kubernetes("cordon", nodes[-1])
    yield nodes[-1]
    kubernetes("uncordon", nodes[-1])


def places(release: Release, kind: str) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in release.pods(kind))


@pytest.mark.parametrize("kind", SPREAD)
def test_the_pods_of_a_kind_are_on_both_nodes(
    release: Release, nodes: list[str], kind: str
) -> None:
    assert places(release, kind) == nodes[:2]


def test_each_port_is_open_to_those_it_is_meant_for_across_nodes(release: Release) -> None:
    with doors.visitors(release) as visiting:
        visiting.settled(visiting.expected())

        host.say(doors.markdown(visiting.tried()))
        there = {target.node for target in visiting.targets.values()}
    assert {"node-0", "node-1"} <= there


def test_a_node_that_takes_no_pods_keeps_none_waiting(
    release: Release, kubernetes: Kubernetes, cordoned: str
) -> None:
    before = places(release, "sync")
    (leaving,) = [pod for pod in release.pods("sync") if pod["spec"]["nodeName"] == cordoned]

    release.kubernetes("delete", "pod", leaving["metadata"]["name"], "--timeout=60s")
    release.wait_ready()

    other = next(node for node in before if node != cordoned)
    assert places(release, "sync") == [other, other]
