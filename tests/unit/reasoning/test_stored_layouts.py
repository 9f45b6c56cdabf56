"""Stored states of older layouts are converted; a state is stored in the oldest layout that fits.

The product has one layout so far. The tests add a second and a third layout to the real state.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from midstreamer import reasoning
from midstreamer.domain.errors import BadInput
from midstreamer.domain.state import State
from midstreamer.reasoning.stored_layouts import Layouts, Step
from tests.support import reasoning_builders as make


class Second(State, frozen=True, eq=False, array_like=True):
    """The second layout of a state in these tests, which adds a field to the first."""

    mood: float = 0.0


class Third(Second, frozen=True, eq=False, array_like=True):
    """The third layout of a state in these tests: adds a field, and stores ``mood`` in per cent."""

    notes: tuple[str, ...] = ()


def _lower_mood(fields: list[Any]) -> list[Any] | None:
    return None if fields[-1] else fields[:-1]


def _lift_notes(fields: list[Any]) -> list[Any]:
    return [*fields[:-1], 100.0 * fields[-1], []]


def _lower_notes(fields: list[Any]) -> list[Any] | None:
    *rest, mood, notes = fields
    return None if notes else [*rest, mood / 100.0]


MOOD = Step(lambda fields: [*fields, 0.0], _lower_mood)
NOTES = Step(_lift_notes, _lower_notes)
SECOND, THIRD = Layouts(Second, [MOOD]), Layouts(Third, [MOOD, NOTES])


def grown(kind: type[State], **fields: Any) -> Any:
    """Return a state in the layout ``kind``; `State` is the first layout.

    The fields of `State` have the values of a state that has learned. ``fields`` are values for the
    fields that ``kind`` adds.
    """
    state = make.learned_stream(200)
    return kind(*(getattr(state, name) for name in State.__struct_fields__), **fields)


def test_bytes_of_the_first_layout_are_lifted_to_the_newest() -> None:
    data = reasoning.encode(make.learned_stream(200))
    lifted = THIRD.decode(data)
    assert (lifted.mood, lifted.notes, lifted.version) == (
        0.0,
        (),
        make.learned_stream(200).version,
    )
    assert lifted.pending == make.learned_stream(200).pending


def test_a_state_that_uses_nothing_new_keeps_its_bytes() -> None:
    data = reasoning.encode(make.learned_stream(200))
    assert data[0] == 1
    assert SECOND.encode(grown(Second)) == data
    assert THIRD.encode(THIRD.decode(data)) == data


def test_a_state_is_written_in_the_oldest_layout_that_can_say_it() -> None:
    data = THIRD.encode(grown(Third, mood=50.0))
    assert data[0] == 2
    assert SECOND.decode(data).mood == 0.5
    assert THIRD.decode(data).mood == 50.0
    assert THIRD.encode(grown(Third, notes=("a",)))[0] == 3


def test_a_layout_that_this_version_does_not_know_is_refused_by_number() -> None:
    with pytest.raises(BadInput, match=r"state format 02: this version reads 01 to 01"):
        reasoning.decode(SECOND.encode(grown(Second, mood=1.0)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01", b"\x01\x93\x01", b"\x02\x90", b"\x03\xc0"])
def test_other_bytes_are_refused_in_every_layout(data: bytes) -> None:
    with pytest.raises(BadInput, match="state"):
        THIRD.decode(data)


def test_learning_goes_on_from_a_lifted_state_as_from_the_old_one() -> None:
    old = make.learned_stream(200)
    lifted = SECOND.decode(reasoning.encode(old))
    ends = [make.streamed(state, 1000, 50, seed=9) for state in (old, lifted)]
    assert SECOND.encode(ends[1]) == reasoning.encode(ends[0])  # type: ignore[arg-type]
    assert msgspec.structs.asdict(ends[1])["mood"] == 0.0
