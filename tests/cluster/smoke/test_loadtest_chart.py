"""Tests of the load test chart: it allows exactly the client names that its workers ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images.parts import NAMES
from loadtests import cluster_load, identities, load_plan
from midstreamer.domain.errors import MidstreamerError
from tests.cluster import cluster_guard, commands_here
from tests.cluster.renders import objects, render
from tools.docs import chart_files

pytestmark = [pytest.mark.cluster]

SCHEMA: dict[str, Any] = json.loads((chart_files.LOADTEST / "values.schema.json").read_text())
VALUES = dict(chart_files.leaves(SCHEMA))
DOMAIN = "midstreamer.local"


def made(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that the load test chart renders from values."""
    return objects(render(values, chart=chart_files.LOADTEST, release="load", namespace="loads"))


def of(kind: str, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects of one kind among the given objects."""
    return [each for each in some if each["kind"] == kind]


def nested(path: str, value: Any) -> dict[str, Any]:
    """Return nested dictionaries that hold `value` at a path such as "a.b.c"."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize("path", VALUES)
def test_every_value_changes_what_is_rendered(path: str) -> None:
    given = nested(path, VALUES[path]["examples"][0])

    assert made(given) != made({}), f"{path} has no effect on what is rendered"


@pytest.mark.parametrize(("users", "workers"), [(5, 2), (6, 2), (1, 3), (300, 4)])
def test_the_names_that_pods_may_have_are_those_that_workers_ask_for(
    users: int, workers: int
) -> None:
    (role,) = of("Role", made({"users": users, "workers": workers}))

    asked = {identities.loader(DOMAIN).id}
    for worker in range(workers):
        asked |= {each.id for each in identities.of_worker(users, worker, workers, DOMAIN)}
    (rule,) = role["rules"]
    assert set(rule["resourceNames"]) == asked
    assert rule["verbs"] == ["use"]


@pytest.mark.parametrize("shape", load_plan.SHAPES)
def test_without_users_the_names_are_those_of_the_shape(shape: str) -> None:
    (role,) = of("Role", made({"users": None, "shape": shape, "workers": 1}))

    names = {name for name in role["rules"][0]["resourceNames"] if name[5:].isdigit()}
    assert len(names) == load_plan.SHAPES[shape].users


def test_what_pods_are_told_is_understood() -> None:
    values = {"users": 7, "rate": 3, "seconds": 9, "mix": "match=1", "workers": 2}

    for job in of("Job", made(values)):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = cluster_load.parsed().parse_args(container["args"])
        assert (given.users, given.rate, given.seconds, given.workers) == (7, 3.0, 9.0, 2)
        assert container["image"].startswith(f"localhost/{NAMES['loadtest']}:")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"rate": 0}, "a number above 0"),
        ({"thresholds": ["fast"]}, "a threshold such as match.p99<=50ms"),
        ({"mix": "match"}, "weights such as match=1,lookup=3"),
        ({"shape": "square"}, "shape"),
        ({"userz": 3}, "there is no such key"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(values: dict[str, Any], why: str) -> None:
    with pytest.raises(commands_here.KitError, match=why):
        made(values)


def test_what_the_schema_takes_as_a_threshold_the_generator_takes() -> None:
    from loadtests import thresholds

    for text in ("failures<=0%", "late<=5ms", "match.p99<=50ms", "sdk.match.max<=1.5s"):
        made({"thresholds": [text]})
        try:
            thresholds.parse(text)
        except MidstreamerError as error:
            pytest.fail(error.message)


def test_helm_tells_what_the_fleet_needs() -> None:
    notes = commands_here.run(
        [
            cluster_guard.helm(), "install", "load", str(chart_files.LOADTEST), "--dry-run=client",
            "--namespace", "loads",
        ]
    )  # fmt: skip

    assert identities.ENTRY in notes
    assert "midstreamer.dev/fleet.mid=client" in notes
