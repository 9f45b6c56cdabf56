"""What a commit says of the reasoning: is it calibrated, and where may it speak."""

from __future__ import annotations

import math
from collections.abc import Iterable

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.series import universe_of
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Learned, Written
from midstreamer.telemetry import metrics

_YES_NO = {True: "true", False: "false"}


def count_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Count what became of decisions, by universe; a void verdict has no scores."""
    for verdict in verdicts:
        universe = universe_of(verdict.series)
        if verdict.void:
            metrics.VERDICTS.labels("void", universe).inc()
            continue
        metrics.VERDICTS.labels(_YES_NO[verdict.hit], universe).inc()
        metrics.CONFIDENCE.labels(universe).inc(confidence(verdict))
        metrics.INTERVALS.labels(_YES_NO[verdict.covered], universe).inc()
        if math.isfinite(verdict.winkler):  # one without an end would make the sum useless
            metrics.BOUNDED_INTERVALS.labels(universe).inc()
            metrics.WINKLER.labels(universe).inc(verdict.winkler)
        metrics.BRIER.labels(universe).inc(verdict.brier)


def count_ticks(outcomes: Iterable[Written | MidstreamerError]) -> None:
    """Count the ticks of a commit: those that are new, and those that were there before."""
    taken = [outcome for outcome in outcomes if isinstance(outcome, Written)]
    metrics.TICKS.labels("stored").inc(sum(written.stored for written in taken))
    metrics.TICKS.labels("repeated").inc(sum(written.repeated for written in taken))


def confidence(verdict: Verdict) -> float:
    """The probability that the decision gave to the side it favoured, from 0.5 to 1.

    The Brier score is the squared distance of the probability from what came, so its root is this
    number or 1 minus it, and this number is the larger of the two.
    """
    distance = math.sqrt(verdict.brier)
    return max(distance, 1.0 - distance)


class Licences:
    """How many learning streams may give signals, by universe.

    Several syncs may teach one stream by turns.  Only the one that taught it last counts it, so
    that the sum over all of them is right.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[bool, str, int]] = {}
        """Whether each stream holds the licence, its universe, and the version of its state."""

    def remember(self, stream: str, state: State) -> None:
        """A stream has this state now."""
        self.forget(stream)
        universe = state.specification.universe
        self._held[stream] = state.licence.held, universe, state.version
        metrics.LICENCES.labels(_YES_NO[state.licence.held], universe).inc()
        metrics.INTERVAL_TARGET.labels(universe).set(state.specification.coverage)

    def overtaken(self, changes: Iterable[Change]) -> None:
        """Forget the streams to which these changes, of other syncs, gave a newer state."""
        for change in changes:
            if isinstance(change, Learned):
                known = self._held.get(change.stream)
                if known is not None and known[2] < change.version:
                    self.forget(change.stream)

    def forget(self, stream: str) -> None:
        """A stream is not remembered any more."""
        if (before := self._held.pop(stream, None)) is not None:
            metrics.LICENCES.labels(_YES_NO[before[0]], before[1]).dec()

    def clear(self) -> None:
        """None is remembered any more."""
        for stream in tuple(self._held):
            self.forget(stream)
