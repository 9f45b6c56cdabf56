"""What the chart ships for Prometheus and Grafana, held against the real definitions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import host, monitoring, renders
from tests.cluster.pods import Kubernetes

pytestmark = [pytest.mark.cluster]

WAYS = ("podMonitor", "serviceMonitor")


@pytest.fixture(scope="module")
def defined(kubernetes: Kubernetes) -> Kubernetes:
    """A namespace in a cluster that knows the kinds of the Prometheus operator."""
    monitoring.install_definitions(kubernetes)
    return kubernetes


def shipped(way: str) -> list[dict[str, Any]]:
    """Everything that is there for monitoring."""
    on = {"enabled": True}
    text = renders.render({"monitoring": {way: on, "rules": on, "dashboards": on}})
    return [
        each
        for each in renders.objects(text)
        if each["kind"] in monitoring.KINDS or "-dashboard-" in each["metadata"]["name"]
    ]


def applied(kubernetes: Kubernetes, made: list[dict[str, Any]]) -> str:
    """What the API server says when it is to take objects, and takes none."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    return kubernetes(*words, stdin=items)


@pytest.mark.parametrize("way", WAYS)
def test_the_api_server_takes_monitors_rules_and_dashboards(way: str, defined: Kubernetes) -> None:
    made = shipped(way)

    told = applied(defined, made)

    assert {each["kind"].lower() for each in made} == {way.lower(), "prometheusrule", "configmap"}
    assert told.count("serverside-applied") == len(made)


@pytest.mark.parametrize("way", WAYS)
def test_a_misspelt_field_is_refused_by_the_real_definition(way: str, defined: Kubernetes) -> None:
    (monitor,) = (each for each in shipped(way) if each["kind"].lower() == way.lower())
    monitor["spec"]["jobLabl"] = monitor["spec"].pop("jobLabel")

    with pytest.raises(host.KitError, match="jobLabl"):
        applied(defined, [monitor])
