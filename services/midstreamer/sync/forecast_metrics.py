"""Updates the metrics about the quality of forecasts after each commit.

They show whether probabilities and intervals are calibrated, and how many streams hold the
licence to give signals.
"""

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
    """Count the verdicts of a commit and add up their scores, by universe.

    A void verdict has no scores: it is counted, and adds nothing to the sums.
    """
    for verdict in verdicts:
        universe = universe_of(verdict.series)
        if verdict.void:
            metrics.VERDICTS.labels("void", universe).inc()
            continue
        metrics.VERDICTS.labels(_YES_NO[verdict.hit], universe).inc()
        metrics.CONFIDENCE.labels(universe).inc(confidence(verdict))
        metrics.INTERVALS.labels(_YES_NO[verdict.covered], universe).inc()
        if math.isfinite(verdict.winkler):  # an infinite score would make the sum infinite
            metrics.BOUNDED_INTERVALS.labels(universe).inc()
            metrics.WINKLER.labels(universe).inc(verdict.winkler)
        metrics.BRIER.labels(universe).inc(verdict.brier)


def count_ticks(outcomes: Iterable[Written | MidstreamerError]) -> None:
    """Count the ticks of a commit: new ticks, and ticks that were stored already."""
    taken = [outcome for outcome in outcomes if isinstance(outcome, Written)]
    metrics.TICKS.labels("stored").inc(sum(written.stored for written in taken))
    metrics.TICKS.labels("repeated").inc(sum(written.repeated for written in taken))


def confidence(verdict: Verdict) -> float:
    """Return the probability that the decision gave to its favoured side, from 0.5 to 1.

    The Brier score is the squared distance between the probability and the outcome (0 or 1).  So
    its root is either the confidence or 1 minus the confidence; the confidence is the larger.
    """
    distance = math.sqrt(verdict.brier)
    return max(distance, 1.0 - distance)


class Licences:
    """The gauge of streams that hold the licence to give signals, by universe.

    Several syncs may update the state of the same stream.  Only the sync that made the latest
    update counts the stream, so that the sum of the gauge over all syncs is right.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[bool, str, int]] = {}
        """For each counted stream: whether it holds the licence, its universe, and the version of
        its state."""

    def remember(self, stream: str, state: State) -> None:
        """Count a stream by its new state, in place of its previous state."""
        self.forget(stream)
        universe = state.specification.universe
        self._held[stream] = state.licence.held, universe, state.version
        metrics.LICENCES.labels(_YES_NO[state.licence.held], universe).inc()
        metrics.INTERVAL_TARGET.labels(universe).set(state.specification.coverage)

    def overtaken(self, changes: Iterable[Change]) -> None:
        """Stop counting each stream whose latest update came from another sync.

        ``changes`` are the changes that other syncs committed.
        """
        for change in changes:
            if isinstance(change, Learned):
                known = self._held.get(change.stream)
                if known is not None and known[2] < change.version:
                    self.forget(change.stream)

    def forget(self, stream: str) -> None:
        """Stop counting a stream; do nothing when the stream is not counted."""
        if (before := self._held.pop(stream, None)) is not None:
            metrics.LICENCES.labels(_YES_NO[before[0]], before[1]).dec()

    def clear(self) -> None:
        """Count no stream any more, so that the gauge of this process is 0."""
        for stream in tuple(self._held):
            self.forget(stream)
