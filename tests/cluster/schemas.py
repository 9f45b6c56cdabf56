"""Make the JSON schemas of a cluster's objects, in the form that kubeconform reads.  Pure.

The API server publishes which fields each kind may have, but its schemas accept unknown fields.
The schemas made here refuse unknown fields, so that a misspelt field of a chart is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

LOCATION = "{{.ResourceKind}}-{{.ResourceAPIVersion}}-{{.Group}}.json"
"""kubeconform's template for the file name of a kind's schema, for example ``pod-v1-v1.json``."""
KINDS = "x-kubernetes-group-version-kind"
_PREFIX = "#/definitions/"
# These definitions are replaced in the schemas that the API server publishes: their values have
# one of two types, which OpenAPI version 2 cannot say.
_EITHER: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def of_kinds(published: Mapping[str, Any]) -> dict[str, Schema]:
    """Return a JSON schema for each kind, by file name, from the document ``/openapi/v2``."""
    definitions = {
        name: _EITHER.get(name) or _strict(each) for name, each in published["definitions"].items()
    }
    schemas = {}
    for name, each in published["definitions"].items():
        for kind in each.get(KINDS, ()):
            # For the core group, whose name is empty, kubeconform uses the version instead.
            group = kind["group"] or kind["version"]
            file = f"{kind['kind']}-{kind['version']}-{group}".lower()
            needed = _needed(name, definitions)
            schemas[f"{file}.json"] = {"$ref": f"{_PREFIX}{name}", "definitions": needed}
    return schemas


def _strict(schema: Schema) -> Schema:
    """Return a copy of a schema that refuses undeclared fields at every depth."""
    strict = {key: _inside(each) for key, each in schema.items()}
    open_ended = (
        "x-kubernetes-preserve-unknown-fields" in schema or "additionalProperties" in strict
    )
    if "properties" in strict and not open_ended:
        strict["additionalProperties"] = False
    if strict.get("format") == "int-or-string":
        del strict["format"]
        strict["type"] = ["string", "integer"]
    return strict


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return _strict(value)
    if isinstance(value, list):
        return [_inside(each) for each in value]
    return value


def _needed(name: str, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return a definition, and all definitions that it refers to directly or indirectly."""
    found: dict[str, Schema] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found[each] = definitions[each]
            waiting += _referred(definitions[each])
    return found


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference.removeprefix(_PREFIX)
        for each in value.values():
            yield from _referred(each)
    elif isinstance(value, list):
        for each in value:
            yield from _referred(each)
