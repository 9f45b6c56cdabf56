"""Tests of the schemas for kubeconform, which need no cluster."""

from __future__ import annotations

from typing import Any

from tests.cluster import schemas

PUBLISHED: dict[str, Any] = {
    "definitions": {
        "apps.v1.Thing": {
            "type": "object",
            "properties": {"spec": {"$ref": "#/definitions/apps.v1.Spec"}},
            schemas.KINDS: [
                {"group": "apps.example", "kind": "Thing", "version": "v1"},
                {"group": "", "kind": "Thing", "version": "v1"},
            ],
        },
        "apps.v1.Spec": {
            "type": "object",
            "properties": {
                "port": {"type": "string", "format": "int-or-string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "apps.v1.Other": {"type": "object"},
    }
}


def test_each_kind_has_a_schema_with_what_it_refers_to_and_no_more() -> None:
    found = schemas.of_kinds(PUBLISHED)

    assert list(found) == ["thing-v1-apps.example.json", "thing-v1-v1.json"]
    assert set(found["thing-v1-apps.example.json"]["definitions"]) == {
        "apps.v1.Thing",
        "apps.v1.Spec",
    }


def test_only_what_is_declared_may_be_there_unless_the_kind_is_open() -> None:
    held = schemas.of_kinds(PUBLISHED)["thing-v1-apps.example.json"]["definitions"]

    spec = held["apps.v1.Spec"]
    assert held["apps.v1.Thing"]["additionalProperties"] is False
    assert spec["additionalProperties"] is False
    assert "additionalProperties" not in spec["properties"]["free"]
    assert spec["properties"]["labels"]["additionalProperties"] == {"type": "string"}


def test_a_value_of_either_type_may_be_of_either() -> None:
    held = schemas.of_kinds(PUBLISHED)["thing-v1-apps.example.json"]["definitions"]

    assert held["apps.v1.Spec"]["properties"]["port"] == {"type": ["string", "integer"]}
