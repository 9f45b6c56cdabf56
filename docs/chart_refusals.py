"""Refusals of values in words: JSON schemas have no place for a message, but Helm prints a `const`.

Of a value that does not match a pattern Helm says that, and shows the pattern.  Here the pattern
stands in a condition, and what follows from it is a constant that no value is: "at
'/images/digests/agent': value must be 'empty, or sha256:<64 digits>'".
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_CHOICES = re.compile(r"^\^\(([a-z]+(?:\|[a-z]+)*)\)\$$")


def refused(told: str) -> Schema:
    """What no value satisfies; whoever reads the complaint is told what it must be."""
    return {"const": told, "not": {"const": told}}


def matching(pattern: str, told: str) -> Schema:
    """A text of this pattern, or the sentence that tells of it."""
    return {"if": {"not": {"pattern": pattern}}, "then": refused(told)}


def not_empty(told: str) -> Schema:
    """A list with something in it, or the sentence."""
    return {"if": {"maxItems": 0}, "then": refused(told)}


def in_words(schema: Schema, sentences: dict[str, str], unknown: str = "", name: str = "") -> None:
    """Put a sentence in place of every rule of a schema that would be printed without one.

    ``sentences`` are those for patterns, by the name of the value; ``unknown`` is what is said of
    keys that are not there, else they are listed.  Raises KeyError for a pattern without one.
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
        there = f"left out: the keys here are {', '.join(properties)}"
        schema["additionalProperties"] = refused(unknown or there)
    for key, one in properties.items():
        in_words(one, sentences, unknown, key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            in_words(schema[key], sentences, unknown, name)
