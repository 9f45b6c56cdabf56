"""The chart's monitors and rules work with a real Prometheus operator and a real Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cluster_guard, commands_here, monitoring
from tests.cluster.monitoring import EVERY, Asked
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tools.docs import chart_files

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PODS = {"agent": 2, "coordinator": 2, "operator": 2, "postgres": 1, "sync": 2}
WAYS = ("podMonitor", "serviceMonitor")
"""The two kinds of monitors that the chart's values offer.

The Prometheus operator begins the name of each scrape job with the kind of its monitor.
"""


def values(way: str) -> dict[str, Any]:
    return {
        "monitoring": {
            way: {"enabled": True, "interval": EVERY},
            "rules": {"enabled": True},
            "dashboards": {"enabled": True},
        }
    }


@pytest.fixture(scope="module")
def operated(
    kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubernetes]:
    """Install a release and run the Prometheus operator for its namespace; return kubectl."""
    monitoring.install_definitions(kubernetes)
    release = Release(kubernetes, values=values("podMonitor"))
    release.install()
    release.wait_ready()
    monitoring.choose_all(kubernetes)
    with monitoring.operating(kubernetes, tmp_path_factory.mktemp("operator")):
        yield kubernetes
    release.uninstall()


@pytest.mark.parametrize("way", WAYS)
def test_every_pod_is_scraped_once_under_the_labels_that_panels_and_rules_select_by(
    way: str, operated: Kubernetes, tmp_path: Path
) -> None:
    cluster = cluster_guard.made_here()
    if cluster is None:
        pytest.skip("Prometheus runs in the network of a node: needs a cluster of `make cluster`")
    release = Release(operated, values=values(way))
    release.put()
    release.wait_ready()
    configuration = monitoring.configuration(
        operated, lambda found: [_way(each) for each in found["scrape_configs"]] == [way]
    )
    with monitoring.scraping(
        cluster, configuration, monitoring.rules(operated), tmp_path / "prometheus"
    ) as asked:
        found = _all_up(asked)
        recorded = commands_here.eventually("rules are evaluated", asked.rule_health, _evaluated)

    assert Counter(labels["component"] for labels in found) == PODS
    assert {labels["job"] for labels in found} == {"midstreamer"}
    assert {labels["namespace"] for labels in found} == {release.namespace}
    assert {labels["pod"] for labels in found} == {
        pod["metadata"]["name"] for pod in release.pods()
    }
    assert set(recorded.values()) == {"ok"}
    assert len(recorded) >= len(list((chart_files.FLEET / "rules").glob("*.yaml")))


def _way(job: dict[str, Any]) -> str:
    return str(job["job_name"]).partition("/")[0]


def _all_up(asked: Asked) -> list[Any]:
    """Wait until every target is scraped; return the labels of each target."""
    commands_here.eventually("every target is scraped", asked.problems, lambda found: not found)
    commands_here.eventually(
        "all pods are up", lambda: len(asked.query("up == 1")), sum(PODS.values()).__eq__
    )
    return [labels for labels, _ in asked.query("up")]


def _evaluated(found: dict[str, str]) -> bool:
    return bool(found) and "unknown" not in found.values()
