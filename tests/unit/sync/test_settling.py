"""Each decision and verdict is learned once, in order of event time; a bad one stops no other."""

from __future__ import annotations

import msgspec
import pytest

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.specification import Transform
from midstreamer.store.store_interface import Kind, Point
from midstreamer.sync import settling
from midstreamer.sync.settling import Lesson
from tests.support.store_builders import SPECIFICATION, STEP, a_decision, value_at


def _point(index: int) -> Point:
    return Point(index * STEP, value_at(index))


def test_lessons_come_in_event_time_with_verdicts_first() -> None:
    due = [(a_decision(at), _point(at + 2)) for at in (6, 4)]
    decisions = [a_decision(8), a_decision(6, name="test/B"), a_decision(6)]
    lessons = settling.judged(reasoning, due, decisions).lessons
    order = [
        (lesson.event.time if isinstance(lesson.event, Decision) else lesson.event.due_time,
         type(lesson.event).__name__, lesson.event.series)
        for lesson in lessons
    ]  # fmt: skip
    assert order == [
        (6 * STEP, "Verdict", "test/A"),
        (6 * STEP, "Decision", "test/A"),
        (6 * STEP, "Decision", "test/B"),
        (8 * STEP, "Verdict", "test/A"),
        (8 * STEP, "Decision", "test/A"),
    ]


def test_every_lesson_raises_the_version_by_one() -> None:
    lessons = [Lesson(SPECIFICATION, a_decision(at)) for at in (4, 5, 6)]
    folded = settling.fold(reasoning, {}, lessons)
    assert [event.version for event in folded.events] == [1, 2, 3]
    assert {event.kind for event in folded.events} == {Kind.DECISION}
    ((_, stored),) = folded.stored
    assert stored.version == 3
    assert reasoning.decode(stored.body).version == 3


def test_an_event_that_was_learned_already_is_ignored() -> None:
    lessons = [Lesson(SPECIFICATION, a_decision(4))] * 2
    assert len(settling.fold(reasoning, {}, lessons).events) == 1


def test_a_decision_that_does_not_settle_teaches_nothing() -> None:
    unsettled = msgspec.structs.replace(a_decision(4), index=-1)
    assert settling.judged(reasoning, [], [unsettled]).lessons == ()


@pytest.mark.parametrize(
    ("transform", "value"), [(Transform.LOG, 0.0), (Transform.IDENTITY, -1e200)]
)
def test_a_value_that_cannot_be_compared_ends_a_decision_and_teaches_nothing(
    transform: Transform, value: float
) -> None:
    spec = msgspec.structs.replace(SPECIFICATION, transform=transform)
    decision = a_decision(4, specification=spec)
    judged = settling.judged(reasoning, [(decision, Point(6 * STEP, value))], [decision])
    (verdict,) = judged.verdicts
    assert verdict.void
    assert (verdict.change, verdict.hit, set(verdict.brier_arms)) == (0.0, False, {0.0})
    later = Lesson(spec, a_decision(8, specification=spec))
    folded = settling.fold(reasoning, {}, [*judged.lessons, later])
    state = folded.states[spec.stream]
    assert (state.pending, state.known) == ({}, ())
    assert state.losses == reasoning.initial(spec).losses


def test_each_stream_learns_separately() -> None:
    other = msgspec.structs.replace(SPECIFICATION, horizon=3)
    lessons = [
        Lesson(SPECIFICATION, a_decision(4)),
        Lesson(other, a_decision(4, specification=other)),
    ]
    folded = settling.fold(reasoning, {}, lessons)
    assert {change.stream: change.version for change in folded.changes} == {
        SPECIFICATION.stream: 1,
        other.stream: 1,
    }
