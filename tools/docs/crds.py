"""Generate the CustomResourceDefinitions from the structs of the operator, as YAML."""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec
import yaml  # type: ignore[import-untyped]
from msgspec import inspect

from midstreamer_operator.resources import agentpools
from tools.docs import docstrings_of_code

NOTE = "# Made by `python -m tools.docs.generate` from {source}; do not edit."
COLUMNS = (
    ("Wanted", "integer", ".spec.replicas", ""),
    ("Ready", "integer", ".status.readyReplicas", ""),
    ("State", "string", '.status.conditions[?(@.type=="Ready")].reason', ""),
    ("Engine", "string", ".spec.engine", "wide"),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', "wide"),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)
"""Columns of ``kubectl get agentpools``: name, type, JSON path, and whether ``-o wide`` is needed.
"""


def agent_pools() -> str:
    """Return the YAML of the CustomResourceDefinition of AgentPool."""
    status = _struct(agentpools.Status)
    unseen = msgspec.to_builtins(agentpools.UNSEEN)
    status["default"] = {"observedGeneration": 0, "replicas": 0, "conditions": [unseen]}
    schema = {
        "type": "object",
        "description": "Equal agents of one fleet that are scaled together. The operator of the"
        " fleet creates a Deployment of the same name.",
        "required": ["spec"],
        "x-kubernetes-validations": [_rule(rule) for rule in agentpools.ROOT_RULES],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _struct(agentpools.Spec),
            "status": status,
        },
    }
    version = {
        "name": agentpools.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
        "schema": {"openAPIV3Schema": schema},
    }
    names = {
        "kind": agentpools.KIND,
        "listKind": f"{agentpools.KIND}List",
        "plural": agentpools.PLURAL,
        "singular": agentpools.KIND.lower(),
        "shortNames": ["pool"],
        "categories": ["midstreamer"],
    }
    built = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{agentpools.PLURAL}.{agentpools.GROUP}",
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": agentpools.GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }
    source = "operator/midstreamer_operator/resources/agentpools.py"
    text = yaml.safe_dump(built, sort_keys=False, width=100, allow_unicode=True)
    assert "{{" not in text, "Helm would read it as a template"
    return f"{NOTE.format(source=source)}\n{text}"


def _struct(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of a struct, with its rules and the docstrings of its fields."""
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType)
    descriptions, properties = docstrings_of_code.attributes(kind), {}
    for field in shape.fields:
        built = {"description": descriptions[field.name], **_type(field.type)}
        assert built["description"], f"{kind.__name__}.{field.name} has no docstring"
        if _is_plain_default(field.default):
            built["default"] = field.default
        properties[field.encode_name] = built
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = [field.encode_name for field in shape.fields if field.required]
    if required:
        schema["required"] = required
    if rules := getattr(kind, "RULES", ()):
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in rules]
    return schema


def _is_plain_default(value: object) -> bool:
    """Return whether the default of a field is an int or a text, and is neither 0 nor "".

    Only such a default is written into the schema.
    """
    return isinstance(value, (int, str)) and bool(value)


def _type(shape: inspect.Type) -> dict[str, Any]:
    match shape:
        case inspect.StructType(cls=kind):
            built = _struct(kind)
            built.pop("description", None)
            return built
        case inspect.StrType():
            return {"type": "string"} | _bounds(
                minLength=shape.min_length, maxLength=shape.max_length, pattern=shape.pattern
            )
        case inspect.IntType():
            bounds = _bounds(minimum=shape.ge, maximum=shape.le)
            return {"type": "integer", "format": "int64"} | bounds
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": [value for value in values if value]}
        case inspect.DictType():
            inner = {"type": "object", "additionalProperties": _type(shape.value_type)}
            return inner | _bounds(maxProperties=shape.max_length)
        case inspect.VarTupleType():
            inner = {"type": "array", "items": _type(shape.item_type)}
            return inner | _bounds(maxItems=shape.max_length) | _keyed(shape.item_type)
        case inspect.UnionType(types=kinds):
            return _union(kinds)
    raise AssertionError(f"{shape} has no schema yet")


def _union(kinds: tuple[inspect.Type, ...]) -> dict[str, Any]:
    """Return the schema of an optional field, or of a quantity (a number or a text)."""
    some = [each for each in kinds if not isinstance(each, inspect.NoneType)]
    if len(some) == 1:
        return _type(some[0])
    (word,) = (each for each in some if isinstance(each, inspect.StrType))
    bounds = _bounds(maxLength=word.max_length, pattern=word.pattern)
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], **bounds} | {
        "x-kubernetes-int-or-string": True
    }


def _keyed(item: inspect.Type) -> dict[str, Any]:
    key = getattr(item.cls, "KEY", "") if isinstance(item, inspect.StructType) else ""
    if not key:
        return {}
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _bounds(**bounds: Any) -> dict[str, Any]:
    return {name: value for name, value in bounds.items() if value is not None}


def _rule(rule: agentpools.Rule) -> dict[str, str]:
    return {"rule": textwrap.dedent(rule.holds), "message": rule.message}


def _column(name: str, kind: str, path: str, when: str) -> dict[str, Any]:
    built: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return built | ({"priority": 1} if when else {})
