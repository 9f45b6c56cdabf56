"""The JSON schemas of a cluster's objects, as kubeconform reads them.  Pure.

The API server publishes what each kind may have.  It lets unknown fields pass; these schemas refuse
them, so that a misspelt field of a chart is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

LOCATION = "{{.ResourceKind}}-{{.ResourceAPIVersion}}-{{.Group}}.json"
"""Where kubeconform finds a kind, below the folder: ``pod-v1-v1.json``."""
KINDS = "x-kubernetes-group-version-kind"
_PREFIX = "#/definitions/"
# The document of version 2 cannot say that a value is of one of two types.
_EITHER: dict[str, Schema] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def of_kinds(published: Mapping[str, Any]) -> dict[str, Schema]:
    """A schema for each kind of a cluster, by file name; takes what ``/openapi/v2`` says."""
    definitions = {
        name: _EITHER.get(name) or _strict(each) for name, each in published["definitions"].items()
    }
    made = {}
    for name, each in published["definitions"].items():
        for kind in each.get(KINDS, ()):
            # kubeconform takes the version for the group where there is none.
            group = kind["group"] or kind["version"]
            file = f"{kind['kind']}-{kind['version']}-{group}".lower()
            needed = _needed(name, definitions)
            made[f"{file}.json"] = {"$ref": f"{_PREFIX}{name}", "definitions": needed}
    return made


def _strict(schema: Schema) -> Schema:
    """The same, without fields that are not declared, whatever is inside."""
    made = {key: _inside(each) for key, each in schema.items()}
    open_ended = "x-kubernetes-preserve-unknown-fields" in schema or "additionalProperties" in made
    if "properties" in made and not open_ended:
        made["additionalProperties"] = False
    if made.get("format") == "int-or-string":
        del made["format"]
        made["type"] = ["string", "integer"]
    return made


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return _strict(value)
    if isinstance(value, list):
        return [_inside(each) for each in value]
    return value


def _needed(name: str, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """A definition with all that it refers to, however far."""
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
