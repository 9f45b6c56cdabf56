"""Computes the verdicts on decisions that are due, and lets their streams learn; pure.

The events of a transaction are its new decisions and verdicts.  They are learned in the order of
event time (the time of a decision, the due time of a verdict).  Of events with equal times, all
verdicts come before all decisions; the verdicts are sorted by series, and so are the decisions.
Each event raises the version of its stream by one.
Every version can be computed again, from the first event or from the last snapshot before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, shortened
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import FRAME_BYTES_MAX, Learned
from midstreamer.store.store_interface import SNAPSHOT_VERSIONS, Event, Kind, Point, StoredState

STATE_BYTES_MAX = FRAME_BYTES_MAX // 4
"""Maximum bytes of an encoded learning state. The limit exists because a state is sent in one frame
together with other changes."""


class Rules(Protocol):
    """The functions of the package `reasoning` that sync uses."""

    def initial(self, specification: Specification) -> State:
        """Return the state of a stream that has learned nothing yet."""

    def judge(self, decision: Decision, value: float, due_time: int) -> Verdict:
        """Return the verdict on a decision, from the tick (``due_time``, ``value``)."""

    def learn(self, state: State, event: Decision | Verdict) -> State:
        """Return the state after one more event."""

    def encode(self, state: State) -> bytes:
        """Return the state as bytes."""

    def decode(self, data: bytes) -> State:
        """Return the state that `encode` turned into these bytes; else raise BadInput."""

    def room(self, state: State) -> int:
        """Return by how many bytes the encoded state can grow at most without a new decision.

        For example, the state grows by the verdict on a decision that is already in the state.
        """


class Lesson(NamedTuple):
    """One event (a decision or a verdict), and the specification of the stream that learns it."""

    specification: Specification
    event: Decision | Verdict


class Unsettled(NamedTuple):
    """A decision whose verdict could not be computed or learned, with the error.

    The tick that settles the decision is stored anyway: one bad decision must not stop a series.
    """

    stream: str
    experience_id: bytes
    detail: str


@dataclass(frozen=True)
class Settlement:
    """The verdicts of one transaction, and the events that its streams learn."""

    verdicts: tuple[Verdict, ...]
    lessons: tuple[Lesson, ...]
    """Events in the order in which they must be learned."""
    unsettled: tuple[Unsettled, ...] = ()
    """Decisions whose verdict could not be computed; they stay open."""


@dataclass(frozen=True)
class Folded:
    """The result of learning the events of one transaction."""

    events: tuple[Event, ...]
    """Learned events, to be stored, each with the version of its stream after the event."""
    states: Mapping[str, State]
    """State of each stream after the transaction, decoded."""
    stored: tuple[tuple[Specification, StoredState], ...]
    """Changed states, encoded, each with the specification of its stream; to be stored."""
    snapshots: tuple[StoredState, ...]
    """States of every `SNAPSHOT_VERSIONS`-th version, which are stored and kept for good."""
    unlearned: tuple[Unsettled, ...] = ()
    """Decisions that got a verdict which their stream could not learn."""

    @property
    def changes(self) -> tuple[Learned, ...]:
        """Changes for the feed: the new state of each stream that learned, once per stream."""
        return tuple(Learned(*state) for _, state in self.stored)


def judged(
    rules: Rules, due: Iterable[tuple[Decision, Point]], decisions: Iterable[Decision]
) -> Settlement:
    """Return the verdicts on the due decisions, and all events in the order to learn them.

    ``due`` pairs each due decision with the point that settles it; ``decisions`` are the new
    decisions of the transaction.
    """
    verdicts, unsettled = [], []
    lessons = [Lesson(new.specification, new) for new in decisions if new.settles]
    for decision, point in due:
        try:
            verdict = rules.judge(decision, point.value, point.time)
        except Exception as error:
            stream, key = decision.specification.stream, decision.experience_id
            unsettled.append(_failed(stream, key, error))
            continue
        verdicts.append(verdict)
        lessons.append(Lesson(decision.specification, verdict))
    verdicts.sort(key=lambda verdict: (verdict.due_time, verdict.series, verdict.experience_id))
    return Settlement(tuple(verdicts), tuple(sorted(lessons, key=order)), tuple(unsettled))


def _failed(stream: str, experience_id: bytes, error: Exception) -> Unsettled:
    return Unsettled(stream, experience_id, shortened(f"{type(error).__name__}: {error}"))


def order(lesson: Lesson) -> tuple[int, bool, str, bytes]:
    """Return the sort key of an event: time, verdicts before decisions, series, experience id."""
    event = lesson.event
    is_decision = isinstance(event, Decision)
    time = event.time if isinstance(event, Decision) else event.due_time
    return time, is_decision, event.series, event.experience_id


def fold(
    rules: Rules,
    states: Mapping[str, State],
    lessons: Sequence[Lesson],
    unreadable: Mapping[str, BadInput] | None = None,
) -> Folded:
    """Learn all events and return the new states; a stream without a state gets an initial one.

    If a decision cannot be learned, its error is raised, because the Write asked for the decision.
    If a verdict cannot be learned, it is left out and listed in `Folded.unlearned`, because the
    tick that caused it may come from another client.  ``unreadable`` holds the error for each
    stream whose stored state cannot be decoded.
    """
    present, known = dict(states), unreadable or {}
    taught: dict[str, Specification] = {}
    events, snapshots, unlearned = [], [], []
    for specification, event in lessons:
        stream = specification.stream
        try:
            if stream in known:
                raise known[stream]
            before = present.get(stream) or rules.initial(specification)
            after = rules.learn(before, event)
        except Exception as error:
            if isinstance(event, Decision):
                raise
            unlearned.append(_failed(stream, event.experience_id, error))
            continue
        if after.version == before.version:
            continue  # `learn` did not change the state: there is no event to store
        present[stream], taught[stream] = after, specification
        kind = Kind.DECISION if isinstance(event, Decision) else Kind.VERDICT
        events.append(Event(stream, after.version, kind, event.experience_id))
        if after.version % SNAPSHOT_VERSIONS == 0:
            snapshots.append(StoredState(stream, after.version, rules.encode(after)))
    bodies = {stream: rules.encode(present[stream]) for stream in sorted(taught)}
    stored = tuple(
        (taught[stream], StoredState(stream, present[stream].version, body))
        for stream, body in bodies.items()
    )
    return Folded(tuple(events), present, stored, tuple(snapshots), tuple(unlearned))


def check_sizes(rules: Rules, folded: Folded, lessons: Iterable[Lesson]) -> None:
    """Raise BadInput when a new decision would make the state of its stream too large for a frame.

    The check adds the bytes by which later verdicts can enlarge the state (`Rules.room`).  So there
    is always room for verdicts.  Ticks cause verdicts but no decisions, so no tick needs to be
    refused because of the size of a state.
    """
    decided = {
        lesson.specification.stream for lesson in lessons if isinstance(lesson.event, Decision)
    }
    for specification, (stream, _, body) in folded.stored:
        size = len(body) + rules.room(folded.states[stream])
        if stream in decided and size > STATE_BYTES_MAX:
            raise BadInput(
                f"stream {stream}: its learning state would grow to {size:,} B, at most"
                f" {STATE_BYTES_MAX:,} B are allowed; use a horizon smaller than"
                f" {specification.horizon} or fewer series per universe"
            )
