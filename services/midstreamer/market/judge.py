"""Judge decisions: were the forecasts right, and did a rival do better?

Only decisions from a given time on are judged (by default the second half of the times), so that a
stream is judged after it has learned. The figures are:

- precision of the signals, compared with the target;
- coverage of the prediction interval, compared with the requested coverage;
- Brier skill over climatology: 1 - Brier score / Brier score of climatology; above 0 means that the
  forecasts are better than climatology;
- the number of signals with the best fixed threshold. It is chosen in hindsight: the lowest
  confidence threshold whose signals would have kept the target precision;
- for every rival, three hit rates on the same decisions: on all of them, on those where Midstreamer
  gave a signal, and on those where the rival is most confident. For the third, as many decisions
  are taken as Midstreamer gave signals. A rival that does better is reported as winning.

Each figure has a 95 % interval by block bootstrap. The result is a
`market.judgement_values.Judgement`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats
from midstreamer.domain.verdict import Verdict
from midstreamer.market import baselines, bootstrap
from midstreamer.market.backtest import Memory, Points
from midstreamer.market.bootstrap import figure
from midstreamer.market.judgement_values import Judgement, RivalJudgement, Threshold


class _Sample(NamedTuple):
    """The decisions that are judged, in time order, with arrays of shape (n,)."""

    pairs: list[tuple[Decision, Verdict]]
    blocks: bootstrap.Blocks
    rose: Floats
    hit: Floats
    emitted: Floats
    confidence: Floats
    brier: Floats
    base_brier: Floats


def judge_decisions(
    decisions: Iterable[Decision],
    verdicts: Iterable[Verdict],
    series: Mapping[str, Points] | None = None,
    *,
    after: int | None = None,
    seasons: Sequence[int] = (),
    draws: int = bootstrap.DRAWS,
) -> Judgement:
    """Judge the decisions of one stream that have a verdict.

    Parameters
    ----------
    decisions, verdicts
        From a backtest or from a live replay, in any order.
    series
        All points of the universe by series, from the first point on, for the rivals. None: no
        rivals.
    after
        Judge decisions at this time or later. None: the second half of the decision times.
    seasons
        Lengths of the seasons in points, for the seasonal rivals: (24, 168) for hourly data.
    draws
        Number of bootstrap draws.

    Raises
    ------
    BadInput
        No decision is left to judge, or the decisions belong to several streams.
    """
    pairs = _paired(decisions, verdicts)
    times = np.unique([decision.time for decision, _ in pairs])
    begin = int(times[len(times) // 2]) if after is None else after
    sample = _sample([pair for pair in pairs if pair[0].time >= begin], draws)
    rivals = () if series is None else _rivals(sample, series, seasons)
    winners = tuple(rival.name for rival in rivals if rival.wins)
    return msgspec.structs.replace(_summary(sample, begin), rivals=rivals, winners=winners)


def _paired(
    decisions: Iterable[Decision], verdicts: Iterable[Verdict]
) -> list[tuple[Decision, Verdict]]:
    """Return each decision with its verdict, in time order.

    Void verdicts and decisions on flat windows are left out.
    """
    verdict_of = {verdict.experience_id: verdict for verdict in verdicts if not verdict.void}
    pairs = [
        (decision, verdict_of[decision.experience_id])
        for decision in decisions
        if decision.experience_id in verdict_of and decision.scale > 0.0
    ]
    streams = {decision.specification.stream for decision, _ in pairs}
    if len(streams) != 1:
        raise BadInput(
            f"the decisions with a verdict belong to {len(streams)} streams"
            f" ({', '.join(sorted(streams)) or 'none'}): judge exactly one stream at a time"
        )
    return sorted(pairs, key=lambda pair: (pair[0].time, pair[0].series))


def _sample(pairs: list[tuple[Decision, Verdict]], draws: int) -> _Sample:
    """Return the pairs with the arrays that the figures need."""
    if not pairs:
        raise BadInput("no decision with a verdict is left to judge: choose an earlier time")
    times = np.array([decision.time for decision, _ in pairs])
    return _Sample(
        pairs=pairs,
        blocks=bootstrap.Blocks(times, pairs[0][0].specification.horizon, draws=draws),
        rose=np.array([float(verdict.change > 0.0) for _, verdict in pairs]),
        hit=np.array([float(verdict.hit) for _, verdict in pairs]),
        emitted=np.array([float(decision.emitted) for decision, _ in pairs]),
        confidence=np.array([decision.confidence for decision, _ in pairs]),
        brier=np.array([verdict.brier for _, verdict in pairs]),
        base_brier=np.array([verdict.brier_arms[0] for _, verdict in pairs]),
    )


def _summary(sample: _Sample, begin: int) -> Judgement:
    """Return all figures except those of the rivals."""
    specification = sample.pairs[0][0].specification
    bounded = np.array([float(math.isfinite(d.high - d.low)) for d, _ in sample.pairs])
    covered = bounded * np.array([float(verdict.covered) for _, verdict in sample.pairs])
    ones, blocks = np.ones(len(sample.pairs)), sample.blocks
    rises = sample.rose.mean()
    return Judgement(
        universe=specification.universe,
        stream=specification.stream,
        after=begin,
        decisions=len(sample.pairs),
        emitted=int(sample.emitted.sum()),
        target=specification.target,
        precision=figure(blocks.ratio(sample.hit * sample.emitted, sample.emitted)),
        base_rate=float(max(rises, 1.0 - rises)),
        hit=figure(blocks.ratio(sample.hit, ones)),
        coverage_target=specification.coverage,
        coverage=figure(blocks.ratio(covered, bounded)),
        winkler=_mean_winkler(sample),
        brier=float(sample.brier.mean()),
        brier_climatology=float(sample.base_brier.mean()),
        brier_skill=figure(1.0 - blocks.ratio(sample.brier, sample.base_brier)),
        fixed_threshold=_hindsight(sample, specification.target),
    )


def _mean_winkler(sample: _Sample) -> float | None:
    """Return the mean interval score of the finite intervals; None when there are none."""
    finite = [verdict.winkler for _, verdict in sample.pairs if math.isfinite(verdict.winkler)]
    return float(np.mean(finite)) if finite else None


def _hindsight(sample: _Sample, target: float) -> Threshold:
    """Return the best fixed confidence threshold, and how many signals it would have given.

    It is chosen in hindsight, from the verdicts: the lowest threshold whose signals would have kept
    the target precision.
    """
    order = np.argsort(-sample.confidence, kind="stable")
    confidence = sample.confidence[order]
    precision = np.cumsum(sample.hit[order]) / np.arange(1, len(order) + 1)
    # A threshold accepts either all decisions of equal confidence or none of them.
    ends = np.append(confidence[1:] < confidence[:-1], True)
    held = np.flatnonzero(ends & (precision >= target))
    count = int(held[-1]) + 1 if held.size else 0
    return Threshold(
        emitted=count,
        confidence=float(confidence[count - 1]) if count else None,
        share=float(sample.emitted.sum() / count) if count else None,
    )


def _rivals(
    sample: _Sample, series: Mapping[str, Points], seasons: Sequence[int]
) -> tuple[RivalJudgement, ...]:
    """Return the figures of every rival."""
    memory = Memory(series, sample.pairs[0][0].specification)
    row = {name: place for place, name in enumerate(memory.names)}
    cases = baselines.Cases(
        memory=memory,
        row=np.array([row[decision.series] for decision, _ in sample.pairs]),
        index=np.array([decision.index for decision, _ in sample.pairs]),
        time=np.array([decision.time for decision, _ in sample.pairs]),
        scale=np.array([decision.scale for decision, _ in sample.pairs]),
        base=np.array([decision.arms[0] for decision, _ in sample.pairs]),
    )
    return tuple(_beside(sample, rival) for rival in baselines.all_of(cases, seasons))


def _beside(sample: _Sample, rival: baselines.Rival) -> RivalJudgement:
    """Return the figures of one rival, on the same decisions and bootstrap draws as ours."""
    blocks, ones = sample.blocks, np.ones(len(sample.pairs))
    change = np.array([verdict.change for _, verdict in sample.pairs])
    hit = (np.sign(rival.lean) * np.sign(change) > 0.0).astype(float)
    chosen = _most_confident(rival.lean, int(sample.emitted.sum()))
    ours = blocks.ratio(sample.hit, ones)
    precision = blocks.ratio(sample.hit * sample.emitted, sample.emitted)
    theirs, same_count = blocks.ratio(hit, ones), blocks.ratio(hit * chosen, chosen)
    compared = {"hit": theirs - ours, "precision": same_count - precision}
    skill = None
    if rival.probability is not None:
        loss = (rival.probability - sample.rose) ** 2
        skill = 1.0 - blocks.ratio(loss, sample.base_brier)
        compared["brier"] = skill - (1.0 - blocks.ratio(sample.brier, sample.base_brier))
    return RivalJudgement(
        name=rival.name,
        hit=figure(theirs),
        hit_on_emitted=figure(blocks.ratio(hit * sample.emitted, sample.emitted)),
        precision_same_count=figure(same_count),
        brier_skill=None if skill is None else figure(skill),
        ahead_by={name: figure(ratios) for name, ratios in compared.items()},
        wins=tuple(name for name, ratios in compared.items() if ratios[0] > 0.0),
        wins_clearly=tuple(name for name, ratios in compared.items() if _above_zero(ratios)),
    )


def _most_confident(lean: Floats, count: int) -> Floats:
    """Return 1 for the ``count`` largest absolute leans and 0 for the others."""
    chosen = np.zeros(len(lean))
    sureness = np.where(np.isnan(lean), -1.0, np.abs(lean))
    chosen[np.argsort(-sureness, kind="stable")[:count]] = 1.0
    return chosen


def _above_zero(ratios: Floats) -> bool:
    """Return whether the interval of a rival's lead over Midstreamer lies wholly above zero.

    The lead is the rival's figure minus ours, such as the difference of the hit rates. ``ratios``
    has first the lead over all decisions, then the lead over each bootstrap draw of decisions.
    """
    difference = figure(ratios)
    return difference is not None and difference.low > 0.0
