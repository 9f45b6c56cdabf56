"""Verdicts for what has become due, and learning from them: pure, in event-time order.

Everything a transaction learns is folded in the order (time, verdicts before decisions, series):
a decision's time, a verdict's due time.  Each event raises its stream's version by one, and every
version can be made again, from the events or from the snapshot before it.
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
from midstreamer.store.ports import SNAPSHOT_VERSIONS, Event, Kind, Point, StoredState

STATE_BYTES_MAX = FRAME_BYTES_MAX // 4
"""No encoded state is larger: each travels in one frame, with other changes."""


class Rules(Protocol):
    """The functions of `reasoning` that are used here."""

    def initial(self, specification: Specification) -> State:
        """A state that has learned nothing."""

    def judge(self, decision: Decision, value: float, due_time: int) -> Verdict:
        """The verdict on a decision."""

    def learn(self, state: State, event: Decision | Verdict) -> State:
        """The state after one more event."""

    def encode(self, state: State) -> bytes:
        """A state as bytes."""

    def decode(self, data: bytes) -> State:
        """The same state again."""

    def room(self, state: State) -> int:
        """Bytes that an encoded state may still grow by without another decision."""


class Lesson(NamedTuple):
    """One event and the stream that learns from it."""

    specification: Specification
    event: Decision | Verdict


class Unsettled(NamedTuple):
    """A decision that could not be settled as others are; the ticks of its write go in all the
    same, because one decision must not stop a series."""

    stream: str
    experience_id: bytes
    detail: str


@dataclass(frozen=True)
class Settlement:
    """What became of all that was due."""

    verdicts: tuple[Verdict, ...]
    lessons: tuple[Lesson, ...]
    unsettled: tuple[Unsettled, ...] = ()
    """Decisions that could not be judged: they stay open."""


@dataclass(frozen=True)
class Folded:
    """What learning adds to the store."""

    events: tuple[Event, ...]
    states: Mapping[str, State]
    stored: tuple[tuple[Specification, StoredState], ...]
    snapshots: tuple[StoredState, ...]
    unlearned: tuple[Unsettled, ...] = ()
    """Decisions that got a verdict from which their stream could not learn."""

    @property
    def changes(self) -> tuple[Learned, ...]:
        """What the feed tells, once for each stream."""
        return tuple(Learned(*state) for _, state in self.stored)


def judged(
    rules: Rules, due: Iterable[tuple[Decision, Point]], decisions: Iterable[Decision]
) -> Settlement:
    """Verdicts of what is due, and all lessons of a transaction in the order to learn them."""
    verdicts, unsettled = [], []
    lessons = [Lesson(one.specification, one) for one in decisions if one.settles]
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
    """Event time; verdicts before decisions of the same time; then by series."""
    event = lesson.event
    made = isinstance(event, Decision)
    time = event.time if isinstance(event, Decision) else event.due_time
    return time, made, event.series, event.experience_id


def fold(
    rules: Rules,
    states: Mapping[str, State],
    lessons: Sequence[Lesson],
    unreadable: Mapping[str, BadInput] | None = None,
) -> Folded:
    """Learn all lessons; streams without a state begin with the initial one.

    A decision that cannot be learned refuses its write, which asked for it.  A verdict that cannot
    be learned is left out, because the tick that brought it is somebody else's.  ``unreadable``
    says of which streams the stored state cannot be read.
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
            continue  # already learned
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
    """Raise BadInput when a decision would let the state of its stream outgrow a frame.

    What its verdict and its folding will add is counted with it: so a tick is never refused for
    the size of a state.
    """
    decided = {one.specification.stream for one in lessons if isinstance(one.event, Decision)}
    for specification, (stream, _, body) in folded.stored:
        size = len(body) + rules.room(folded.states[stream])
        if stream in decided and size > STATE_BYTES_MAX:
            raise BadInput(
                f"stream {stream}: its learning state would grow to {size:,} B, at most"
                f" {STATE_BYTES_MAX:,} B are kept; use a horizon smaller than"
                f" {specification.horizon} or fewer series per universe"
            )
