"""learn: add events to a state in event time, so that the order of arrival does not matter.

An event is a decision or a verdict. It is first kept in the state. When a decision of a later time
arrives, all kept events of earlier times are folded into the state, in the order (time, verdicts
before decisions, series). So decisions of one time do not influence each other. `as_of` returns the
state that a decision at a given time depends on: it folds events into a copy.

Only decisions advance the time of a state. Suppose that ticks are stored long before decisions are
made about them. Then the outcome of each decision is known already, and its verdict arrives at
once. The state keeps the verdict unfolded until decisions reach its due time. So it does not matter
when the ticks were stored.

A decision that arrives late is kept too and folded at the next advance; a fold is never undone.
Folding a decision stores it as pending and adds its doubt (1 - confidence) to the doubts that later
decisions are ranked among. Each verdict is folded once. It can change the losses of the arms, the
slope of the ``calibrated`` arm, the interval tracker and the licence.

A decision settles with the arms that it was made with, whatever arms the present version has. A
state has losses for as many arms as its decisions had, so two versions that learn the same events
produce the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstreamer.domain import specification as specifications
from midstreamer.domain.decision import ARMS_MAX, Decision, Reason
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import Known, Pending, State, Tracker
from midstreamer.domain.verdict import Verdict
from midstreamer.reasoning import forecast, interval_tracker, licence, mixture

DOUBTS_KEPT = 1000
"""Number of recent doubts (1 - confidence) kept in a state, for ranking later decisions."""
LATE_MAX = 1024
"""Maximum late events that are kept. An event is late if it is older than the time of the state.
Kept events are folded when a decision of a later time arrives. If more than this many late events
are kept, the next decision folds them, whatever its time is.
"""


def initial(specification: Specification) -> State:
    """Return the state of a stream that has learned nothing."""
    specifications.check(specification)
    no_losses = np.zeros((specification.horizon, forecast.ARMS_FIRST))
    return State(
        specification=specification,
        version=0,
        time=-(2**63),
        waiting=(),
        known=(),
        losses=no_losses.tobytes(),
        slope=(0.0, 0.0),
        tracker=Tracker(),
        licence=licence.initial(),
        doubts=b"",
        pending={},
        last={},
    )


def analogs_min(specification: Specification) -> int:
    """Return how many analogs a decision needs to be a signal.

    A decision with fewer analogs is an abstention, and nothing is learned from its verdict.
    """
    return (specification.neighbours + 1) // 2


def phase_of(index: int, specification: Specification) -> int:
    """Return the phase of a window whose last value has the position ``index`` in its series.

    The phase is the position modulo horizon. A window outside every stored series has the index -1,
    and its phase is 0.
    """
    return max(index, 0) % specification.horizon


def losses(state: State) -> Floats:
    """Return the summed Brier losses, shape (horizon, arms), read-only."""
    return np.frombuffer(state.losses).reshape(state.specification.horizon, -1)


def doubts(state: State) -> NDArray[np.float32]:
    """Return the doubts (1 - confidence) of recent decisions, float32, oldest first, read-only."""
    return np.frombuffer(state.doubts, dtype="<f4")


def learn(state: State, event: Decision | Verdict) -> State:
    """Return the state after one more event; its version is one higher.

    The same state is returned for a decision that never settles (index -1), for a decision that is
    pending already, and for a verdict that was learned already.

    Raises
    ------
    BadInput
        The decision belongs to another stream. Or the verdict's decision was never learned, has
        another series, time or number of arms, or is not earlier than the verdict's due time.
    """
    if isinstance(event, Decision):
        return _learn_decision(state, event)
    return _learn_verdict(state, event)


def _learn_decision(state: State, decision: Decision) -> State:
    """Return the state with a decision added to ``waiting``.

    Before that, kept events may be folded (decisions in ``waiting``, verdicts in ``known``). If the
    new decision is later than ``state.time``, all kept events earlier than the new decision are
    folded. Otherwise only late events (older than ``state.time``) are folded, and only if more than
    `LATE_MAX` of them are kept.
    """
    if decision.specification != state.specification:
        raise BadInput(
            f"decision of {decision.specification.stream} cannot be learned in the state of"
            f" {state.stream}"
        )
    if not decision.settles or _find(state, decision.experience_id):
        return state
    pending = _pending(decision)
    if pending.time > state.time or _late(state) > LATE_MAX:
        state = _folded(state, max(pending.time, state.time))
    all_waiting = sorted((*state.waiting, pending), key=_decision_order)
    return msgspec.structs.replace(state, version=state.version + 1, waiting=tuple(all_waiting))


def _late(state: State) -> int:
    """Return how many events in ``waiting`` and ``known`` are older than the time of the state."""
    late = sum(kept.time < state.time for kept in state.waiting)
    return late + sum(known.due_time < state.time for known in state.known)


def _learn_verdict(state: State, verdict: Verdict) -> State:
    """Return the state with a verdict added to ``known``."""
    decided = _find(state, verdict.experience_id)
    if decided is None:
        _check_learned_before(state, verdict)
        return state
    _check_verdict(decided, verdict)
    if any(known.experience_id == verdict.experience_id for known in state.known):
        return state
    kept = Known(
        verdict.experience_id,
        verdict.series,
        verdict.time,
        verdict.due_time,
        verdict.outcome,
        verdict.hit,
        verdict.covered,
        verdict.brier_arms,
        verdict.void,
    )
    known = sorted((*state.known, kept), key=_verdict_order)
    return msgspec.structs.replace(state, version=state.version + 1, known=tuple(known))


def _find(state: State, experience_id: bytes) -> Pending | None:
    """Return the decision if it is pending or waiting, else None."""
    if experience_id in state.pending:
        return state.pending[experience_id]
    return next((kept for kept in state.waiting if kept.experience_id == experience_id), None)


def _check_learned_before(state: State, verdict: Verdict) -> None:
    """Raise BadInput when the verdict's decision was never learned.

    This is called when the decision is neither pending nor waiting. Then the decision was either
    folded and settled, or never learned. ``state.last`` has the time of the newest folded decision
    of each series. A decision after that time cannot have been folded, so it was never learned.
    """
    if verdict.time > state.last.get(verdict.series, verdict.time - 1):
        raise BadInput(
            f"verdict of decision {verdict.experience_id.hex()} of {verdict.series} at"
            f" {verdict.time}, which {state.stream} never learned: learn the decision first"
        )


def _check_verdict(decided: Pending, verdict: Verdict) -> None:
    """Raise BadInput when the verdict does not fit its decision."""
    if (decided.series, decided.time) != (verdict.series, verdict.time):
        raise BadInput(
            f"verdict {verdict.experience_id.hex()} names {verdict.series} at {verdict.time}, but"
            f" its decision is for {decided.series} at {decided.time}"
        )
    if verdict.due_time <= decided.time:
        raise BadInput(
            f"verdict of {verdict.series} at {decided.time} is due at {verdict.due_time}:"
            " the due time must be later than the decision"
        )
    if len(verdict.brier_arms) != len(decided.arms):
        raise BadInput(
            f"verdict of {verdict.series} at {verdict.time} has losses of"
            f" {len(verdict.brier_arms)} arms, but its decision has {len(decided.arms)} arms"
        )


def _pending(decision: Decision) -> Pending:
    """Return the part of a decision that is kept until its verdict arrives."""
    low, _, high = forecast.interval(
        decision.matches.outcome_array(), decision.specification.coverage
    )
    enough = len(decision.matches) >= analogs_min(decision.specification)
    return Pending(
        experience_id=decision.experience_id,
        series=decision.series,
        time=decision.time,
        phase=phase_of(decision.index, decision.specification),
        arms=decision.arms,
        doubt=min(decision.probability, 1.0 - decision.probability),
        low=low,
        high=high,
        rank=decision.rank,
        emitted=decision.emitted,
        teaches=enough and decision.scale > 0.0 and decision.reason is not Reason.STALE_DATA,
    )


def _decision_order(kept: Pending) -> tuple[int, str, bytes]:
    """Sort key of decisions in ``State.waiting``."""
    return kept.time, kept.series, kept.experience_id


def _verdict_order(kept: Known) -> tuple[int, str, int, bytes]:
    """Sort key of verdicts in ``State.known``."""
    return kept.due_time, kept.series, kept.time, kept.experience_id


@functools.lru_cache(maxsize=4)
def as_of(state: State, time: int) -> State:
    """Return the state that a decision at ``time`` depends on.

    The state includes the verdicts due by ``time`` and the decisions before ``time``. The last few
    results are cached, because a coordinator needs the same state for all series of one time.
    """
    verdicts = [known for known in state.known if known.due_time <= time]
    decisions = [kept for kept in state.waiting if kept.time < time]
    if not (verdicts or decisions):
        return state
    return _fold(state, decisions, verdicts)


def _folded(state: State, time: int) -> State:
    """Return the state with all kept events before ``time`` folded, and ``time`` as its time."""
    decisions = [kept for kept in state.waiting if kept.time < time]
    verdicts = [known for known in state.known if known.due_time < time]
    # Events at the new time itself stay unfolded: more events of that time may still arrive.
    return msgspec.structs.replace(
        _fold(state, decisions, verdicts),
        time=time,
        waiting=tuple(kept for kept in state.waiting if kept.time >= time),
        known=tuple(known for known in state.known if known.due_time >= time),
    )


def _fold(state: State, decisions: Iterable[Pending], verdicts: Iterable[Known]) -> State:
    """Fold events in the order (time, verdicts before decisions, series); return the state."""
    work = _Work(state)
    keyed: list[tuple[tuple[int, int], Pending | Known]] = [
        *(((known.due_time, 0), known) for known in verdicts),
        *(((kept.time, 1), kept) for kept in decisions),
    ]
    for _, event in sorted(keyed, key=lambda pair: pair[0]):
        if isinstance(event, Pending):
            work.decided(event)
        else:
            work.settled(event)
    return work.closed()


class _Work:
    """A mutable copy of a state while events are folded into it."""

    def __init__(self, state: State) -> None:
        specification = state.specification
        self._state = state
        self._miss_rate = 1.0 - specification.coverage
        self._losses = losses(state).copy()
        self._slope = state.slope
        self._width = state.tracker.width
        self._scores = np.frombuffer(state.tracker.scores).tolist()
        self._capped, self._caps = state.tracker.capped, state.tracker.caps
        self._gate = licence.Gate(
            state.licence, target=specification.target, horizon=specification.horizon
        )
        self._doubts = doubts(state).tolist()
        self._pending = dict(state.pending)
        self._last = dict(state.last)

    def decided(self, decision: Pending) -> None:
        """Fold a decision: store it as pending until its verdict arrives."""
        before = self._last.get(decision.series)
        if before is not None and decision.time <= before:
            # A repeated or out-of-order decision must not teach: its outcome may be known already.
            decision = msgspec.structs.replace(decision, teaches=False)
        else:
            self._last[decision.series] = decision.time
        self._pending[decision.experience_id] = self._gate.decided(decision)
        self._widen(len(decision.arms))
        if decision.teaches:
            self._doubts.append(decision.doubt)

    def settled(self, verdict: Known) -> None:
        """Fold a verdict: learn from it, once."""
        decision = self._pending.pop(verdict.experience_id)
        if verdict.void:
            self._gate.dropped(decision)
            return
        self._gate.settled(decision, right=verdict.hit)
        if not decision.teaches:
            return
        self._lose(decision.phase, verdict.losses)
        if len(decision.arms) > 1:
            base, voted = decision.arms[:2]
            rise = verdict.outcome > 0.0
            self._slope = mixture.steepened(self._slope, base=base, voted=voted, rise=rise)
        self._track(interval_tracker.score(verdict.outcome, decision.low, decision.high), verdict)

    def _widen(self, arms: int) -> None:
        """Give the losses ``arms`` columns, if they have fewer; at most ARMS_MAX.

        Each new column starts with the loss that gives its arm the average weight.
        """
        arms = min(arms, ARMS_MAX)
        if arms > self._losses.shape[1]:
            self._losses = np.array([mixture.fitted(row, arms) for row in self._losses.tolist()])

    def _lose(self, phase: int, lost: tuple[float, ...]) -> None:
        """Add the Brier losses of a verdict to the sums of its phase."""
        if len(lost) == self._losses.shape[1]:
            self._losses[phase] += lost
        else:
            self._losses[phase] = mixture.charged(self._losses[phase].tolist(), lost)

    def _track(self, score: float, verdict: Known) -> None:
        """Update the interval tracker with the score of one outcome."""
        self._scores.append(score)
        del self._scores[: -interval_tracker.SCORES_KEPT]
        if self._width is not None:
            gain = interval_tracker.gain(self._state.specification.horizon, self._gate.series_count)
            self._width, self._capped = interval_tracker.moved(
                self._width,
                self._scores,
                missed=not verdict.covered,
                miss_rate=self._miss_rate,
                gain=gain,
            )
            self._caps += self._capped
        elif len(self._scores) >= interval_tracker.SCORES_MIN:
            self._width = interval_tracker.first_width(self._scores, self._miss_rate)

    def closed(self) -> State:
        """Return the state after all folded events; it still keeps the events not folded yet."""
        return msgspec.structs.replace(
            self._state,
            losses=self._losses.tobytes(),
            slope=self._slope,
            tracker=Tracker(
                self._width, np.array(self._scores).tobytes(), self._capped, self._caps
            ),
            licence=self._gate.closed(),
            doubts=np.array(self._doubts[-DOUBTS_KEPT:], dtype="<f4").tobytes(),
            pending=self._pending,
            last=self._last,
        )
