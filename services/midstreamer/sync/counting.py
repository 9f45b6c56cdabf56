"""What a commit says of the reasoning: is it calibrated, and where may it speak."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.series import universe_of
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Written
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


def count_licences(states: Iterable[State]) -> None:
    """Tell how many learning streams of each universe may give signals; ``states`` are all."""
    held: Counter[tuple[bool, str]] = Counter()
    for state in states:
        universe = state.specification.universe
        held[state.licence.held, universe] += 1
        metrics.INTERVAL_TARGET.labels(universe).set(state.specification.coverage)
    metrics.LICENCES.clear()
    for (holds, universe), streams in held.items():
        metrics.LICENCES.labels(_YES_NO[holds], universe).inc(streams)
