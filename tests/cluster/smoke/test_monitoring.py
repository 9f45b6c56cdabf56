"""The API server accepts the chart's monitors, rules and dashboards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import commands_here, monitoring, renders
from tests.cluster.pods import Kubernetes

pytestmark = [pytest.mark.cluster]

WAYS = ("podMonitor", "serviceMonitor")


@pytest.fixture(scope="module")
def defined(kubernetes: Kubernetes) -> Kubernetes:
    """Install the Prometheus operator's CustomResourceDefinitions; return kubectl for tests."""
    monitoring.install_definitions(kubernetes)
    return kubernetes


def shipped(way: str) -> list[dict[str, Any]]:
    """Return all objects that the chart renders for monitoring.

    `way` is the kind of monitor that is enabled: "podMonitor" or "serviceMonitor".
    """
    on = {"enabled": True}
    text = renders.render({"monitoring": {way: on, "rules": on, "dashboards": on}})
    return [
        each
        for each in renders.objects(text)
        if each["kind"] in monitoring.KINDS or "-dashboard-" in each["metadata"]["name"]
    ]


def applied(kubernetes: Kubernetes, made: list[dict[str, Any]]) -> str:
    """Apply objects with `--dry-run=server` and return kubectl's output; raises KitError."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    return kubernetes(*words, stdin=items)


@pytest.mark.parametrize("way", WAYS)
def test_the_api_server_takes_monitors_rules_and_dashboards(way: str, defined: Kubernetes) -> None:
    objects = shipped(way)

    output = applied(defined, objects)

    assert {each["kind"].lower() for each in objects} == {
        way.lower(),
        "prometheusrule",
        "configmap",
    }
    assert output.count("serverside-applied") == len(objects)


@pytest.mark.parametrize("way", WAYS)
def test_a_misspelt_field_is_refused_by_the_real_definition(way: str, defined: Kubernetes) -> None:
    (monitor,) = (each for each in shipped(way) if each["kind"].lower() == way.lower())
    monitor["spec"]["jobLabl"] = monitor["spec"].pop("jobLabel")

    with pytest.raises(commands_here.KitError, match="jobLabl"):
        applied(defined, [monitor])
