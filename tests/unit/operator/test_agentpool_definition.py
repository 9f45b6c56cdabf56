"""The CustomResourceDefinition of `AgentPool`: schema, bounds, defaults and rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from midstreamer_operator.resources import agentpools
from midstreamer_operator.resources.agentpools import Spec
from tools.docs import crds

DEFINITION: dict[str, Any] = yaml.safe_load(crds.agent_pools())
(VERSION,) = DEFINITION["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def at(path: str) -> dict[str, Any]:
    """Return the schema of the field with this path, such as `.spec.replicas`."""
    found = SCHEMA
    for name in path.strip(".").split("."):
        found = found["properties"][name]
    return dict(found)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schema and all schemas nested in it, at any depth."""
    if isinstance(schema, dict):
        if "type" in schema or "anyOf" in schema:
            yield schema
        for each in schema.values():
            yield from parts(each)


def test_helm_keeps_it_when_the_chart_goes() -> None:
    assert DEFINITION["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    ("part", "path", "kind"),
    [
        ("specReplicasPath", ".spec.replicas", "integer"),
        ("statusReplicasPath", ".status.replicas", "integer"),
        ("labelSelectorPath", ".status.selector", "string"),
    ],
)
def test_the_scale_points_at_fields_that_are_there(part: str, path: str, kind: str) -> None:
    assert VERSION["subresources"]["scale"][part] == path
    assert at(path)["type"] == kind


def test_every_list_map_and_word_has_a_bound_as_rules_cost_by_it() -> None:
    bounds = {"array": "maxItems", "string": "maxLength", "object": "maxProperties"}
    unbound = [
        each
        for each in parts(SCHEMA["properties"]["spec"])
        if (bound := bounds.get(each.get("type", ""))) and bound not in each
        if not {"properties", "enum"} & each.keys() and len(each) > 1
    ]

    assert unbound == []


def test_the_status_before_anybody_has_seen_the_pool_can_be_read_and_says_so() -> None:
    unseen = at(".status")["default"]

    pool = agentpools.read({"metadata": {"name": "p"}, "spec": {"fleet": "m"}, "status": unseen})

    (ready,) = pool.status.conditions
    assert (ready.type, ready.status) == ("Ready", "Unknown")
    assert "operator" in ready.message


def test_defaults_of_the_schema_are_those_of_the_struct() -> None:
    spec = Spec(fleet="mid")

    written = {
        name: field["default"] for name, field in at(".spec")["properties"].items()
        if "default" in field
    }  # fmt: skip

    assert written == {"replicas": spec.replicas}


def test_every_rule_says_what_to_do() -> None:
    rules = [rule for each in parts(SCHEMA) for rule in each.get("x-kubernetes-validations", ())]

    assert len(rules) >= 8
    assert all(any(mark in rule["message"] for mark in ";:,") for rule in rules)
