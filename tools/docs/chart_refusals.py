"""Readable messages for invalid values of a chart, in a JSON schema.

A JSON schema has no field for an error message.  If a value does not match a pattern, Helm prints
only the pattern.  But Helm prints the constant of a `const`.  Therefore the pattern is put into a
condition.  For a value that does not match, the schema requires a constant and also forbids it, so
that no value is valid.  The constant is the sentence for the user.  Helm then prints:
"at '/images/digests/agent': value must be 'empty, or sha256:<64 digits>'".
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_CHOICES = re.compile(r"^\^\(([a-z]+(?:\|[a-z]+)*)\)\$$")


def refused(told: str) -> Schema:
    """Return a schema that refuses every value, so that Helm prints the message ``told``.

    ``told`` says what a correct value would be.  Use this schema only where every value is wrong,
    for example after a condition that only wrong values meet.
    """
    return {"const": told, "not": {"const": told}}


def matching(pattern: str, told: str) -> Schema:
    """Return a schema for texts that match a pattern; for any other text, Helm prints ``told``."""
    return {"if": {"not": {"pattern": pattern}}, "then": refused(told)}


def not_empty(told: str) -> Schema:
    """Return a schema for a list that is not empty; Helm prints ``told`` for an empty list."""
    return {"if": {"maxItems": 0}, "then": refused(told)}


def in_words(schema: Schema, sentences: dict[str, str], unknown: str = "", name: str = "") -> None:
    """Replace rules of a schema, in place, by rules for which Helm prints a readable sentence.

    ``name`` is the name of the value that the schema describes.  ``sentences`` maps names of values
    to the sentences for their patterns.  ``unknown`` is the sentence for unknown keys; by default
    it lists the known keys.  Raise KeyError for a pattern without a sentence.
    """
    if (pattern := schema.pop("pattern", None)) is not None:
        if choices := _CHOICES.match(pattern):
            schema["enum"] = choices[1].split("|")
        else:
            schema |= matching(pattern, sentences[name])
    if (above := schema.pop("exclusiveMinimum", None)) is not None:
        schema |= {"if": {"maximum": above}, "then": refused(f"more than {above:g}")}
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        there = f"removed: the keys here are {', '.join(properties)}"
        schema["additionalProperties"] = refused(unknown or there)
    for key, one in properties.items():
        in_words(one, sentences, unknown, key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            in_words(schema[key], sentences, unknown, name)
