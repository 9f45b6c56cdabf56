"""A decision that cannot be settled or learned is left out and named; the series goes on."""

from __future__ import annotations

import msgspec
import pytest
import structlog

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.protocol.frames import Caller, Write
from midstreamer.store import row_conversion
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Point, StoredState, Unreadable
from midstreamer.sync import settling, write_planning
from midstreamer.sync.settling import Lesson
from midstreamer.sync.write_planning import Facts
from tests.support.store_builders import (
    SPECIFICATION,
    STEP,
    a_column,
    a_committer,
    a_decision,
    a_write,
    commit,
    given,
    value_at,
)

STREAM = SPECIFICATION.stream


def _due(*decisions: Decision) -> list[tuple[Decision, Point]]:
    return [
        (decision, Point((decision.due_index) * STEP, value_at(decision.due_index)))
        for decision in decisions
    ]


async def _open_decisions(*decisions: Decision) -> MemoryStore:
    """Return a store with six ticks and with decisions whose outcomes are not known yet."""
    store = MemoryStore()
    await store.open()
    await commit(a_committer(store), a_write(a_column(0, 6), decisions=decisions))
    return store


def test_a_verdict_that_cannot_be_learned_is_left_out_and_the_others_are_learned() -> None:
    # The stream has learned the decision `known`, but not the decision `stranger`.
    stranger, known = a_decision(4), a_decision(5)
    judged = settling.judged(reasoning, _due(stranger, known), [known])
    folded = settling.fold(reasoning, {}, judged.lessons)
    assert len(judged.verdicts) == 2
    assert [event.experience_id for event in folded.events] == [known.experience_id] * 2
    ((stream, experience_id, detail),) = folded.unlearned
    assert (stream, experience_id) == (STREAM, stranger.experience_id)
    assert "learn the decision first" in detail


def test_a_decision_that_cannot_be_judged_is_left_open_and_the_others_get_their_verdict() -> None:
    # The time of this decision is wrong: it lies after the tick that settles the decision.
    late = msgspec.structs.replace(a_decision(4), time=10**9)
    judged = settling.judged(reasoning, _due(late, a_decision(5)), [])
    assert [verdict.experience_id for verdict in judged.verdicts] == [a_decision(5).experience_id]
    assert [verdict.experience_id for verdict in judged.unsettled] == [late.experience_id]


def test_numbers_too_large_to_be_squared_give_a_void_verdict() -> None:
    wild = msgspec.structs.replace(a_decision(4), probability=1e200)
    judged = settling.judged(reasoning, _due(wild), [])
    assert [verdict.void for verdict in judged.verdicts] == [True]
    assert judged.unsettled == ()


def test_a_decision_that_cannot_be_learned_refuses_its_write() -> None:
    with pytest.raises(BadInput, match="state format"):
        settling.fold(reasoning, {}, [Lesson(SPECIFICATION, a_decision(4))], _unreadable())


def _unreadable() -> dict[str, BadInput]:
    return {STREAM: BadInput("state format 02: this version reads 01 to 01")}


async def test_a_state_that_a_newer_version_wrote_does_not_refuse_ticks() -> None:
    store = await _open_decisions(a_decision(4))
    specification, state = store.state_of[STREAM]
    newer = StoredState(STREAM, state.version, b"\x02" + state.body[1:])
    store.state_of[STREAM] = specification, newer
    with structlog.testing.capture_logs() as raised:
        written = await commit(a_committer(store), a_write(a_column(6, 7), sequence=2))
    assert [verdict.experience_id for verdict in written.verdicts] == [a_decision(4).experience_id]
    assert [(line["event"], line["stream"]) for line in raised] == [("verdict.unlearned", STREAM)]
    assert store.state_of[STREAM] == (specification, newer)


def test_a_decision_that_a_newer_version_wrote_is_named_and_not_read() -> None:
    body = msgspec.to_builtins(a_decision(4), builtin_types=(bytes,))
    body["specification"]["trim"] = 0.5
    row = {"experience_id": b"id", "body": msgspec.msgpack.encode(body)}
    found = row_conversion.readable(row)
    assert isinstance(found, Unreadable)
    assert found.experience_id == b"id"
    assert "unknown field `trim`" in found.detail


def test_only_the_part_that_repeats_an_unreadable_decision_is_refused() -> None:
    callers = (Caller("client/a", 1, 0), Caller("client/b", 0, 1))
    write = Write(
        sequence=1, columns=(a_column(0, 6),), decisions=(a_decision(4),), callers=callers
    )
    facts = Facts(unreadable={a_decision(4).experience_id: "unknown field `trim`"})
    taken, refused = write_planning.plan([given(write)], facts).outcomes
    assert isinstance(taken, write_planning.PartTaken)
    assert isinstance(refused, BadInput)
    assert "this version cannot decode it (unknown field `trim`)" in refused.message
