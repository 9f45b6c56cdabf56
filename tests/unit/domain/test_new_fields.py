"""New fields can be added to specifications without a change of any recorded digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstreamer.domain import decision, series
from midstreamer.domain.specification import Specification, check
from midstreamer.protocol import codec, frames
from midstreamer.store import row_conversion

RECORDED = json.loads((Path(__file__).parents[2] / "recorded/specifications.json").read_text())
"""Specifications and their digests, recorded when new fields first became possible."""


class Grown(Specification, frozen=True):
    """A specification of a later version, with one more field."""

    trim: float = 1.0


def _given(recorded: dict[str, Any], kind: type[Specification] = Specification) -> Specification:
    return check(kind(**recorded["given"]))


@pytest.mark.parametrize("kind", [Specification, Grown])
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["digest"])
def test_names_and_bytes_are_those_recorded(
    recorded: dict[str, Any], kind: type[Specification]
) -> None:
    specification = _given(recorded, kind)
    named = series.window(
        [1.0, 2.5], series=f"{specification.universe}/A", time=1_600_000_000_000_000
    )
    free = series.window([1.0, -2.5])
    assert msgspec.msgpack.encode(specification).hex() == recorded["body"]
    assert (specification.digest, specification.stream) == (recorded["digest"], recorded["stream"])
    assert decision.experience_id(specification, named).hex() == recorded["experience"]
    assert (
        decision.experience_id(specification, free).hex() == recorded["experience_without_series"]
    )


def test_at_least_fifty_specifications_are_recorded() -> None:
    assert len(RECORDED) >= 50
    assert len({specification["digest"] for specification in RECORDED}) > 40


@pytest.mark.parametrize("trim", [1.0, float("1.0"), 1, True])
def test_a_later_field_at_its_default_is_not_encoded(trim: float) -> None:
    specification = Grown("u", trim=trim)
    assert msgspec.msgpack.encode(specification) == msgspec.msgpack.encode(Specification("u"))
    assert msgspec.json.encode(specification) == msgspec.json.encode(Specification("u"))


def test_a_later_field_that_a_peer_sends_at_its_default_is_not_encoded_again() -> None:
    fields = msgspec.to_builtins(Specification("u")) | {"trim": 1.0}
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Grown)
    assert read.digest == Specification("u").digest
    replaced = msgspec.structs.replace(Grown("u", trim=2.0), trim=float("1"))
    assert replaced.digest == Specification("u").digest


def test_a_later_field_with_another_value_gives_another_name() -> None:
    specification = Grown("u", trim=0.5)
    assert specification.digest != Specification("u").digest
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(specification), type=Grown) == specification
    )


def test_a_row_of_the_version_before_is_read_by_a_version_with_one_field_more() -> None:
    text = row_conversion.json(Specification("u", window=5))
    assert msgspec.json.decode(text, type=Grown) == Grown("u", window=5)
    assert row_conversion.specification(row_conversion.json(Grown("u", window=5))) == Specification(
        "u", window=5
    )


def test_an_unknown_field_is_refused_by_name_and_never_left_out() -> None:
    newer = Grown("u", trim=0.5)
    with pytest.raises(msgspec.ValidationError, match="unknown field `trim`"):
        row_conversion.specification(row_conversion.json(newer))
    asked = frames.Match(specification=newer, windows=())
    with pytest.raises(Exception, match="unknown field `trim`"):
        codec.decode(codec.encode(asked)[codec.HEAD_BYTES :])
