"""Judge decisions: were the forecasts right, and did a rival do better?

Only decisions from a given time on are judged (by default the second half of the times), so that a
stream is judged after it has learned. The figures are:

- precision of the signals, compared with the target;
- coverage of the prediction interval, compared with the requested coverage;
- Brier skill over climatology: 1 - loss / loss of climatology; above 0 is better;
- the number of signals that the best fixed threshold, chosen in hindsight, would have given;
- every rival on the same decisions: its hit rate on all decisions, on the decisions with a signal,
  and on an equal number of its own most confident decisions. A rival that does better is reported
  as winning.

Each figure has a 95 % interval by block bootstrap. The result is a plain dict that can be encoded
as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats
from midstreamer.domain.verdict import Verdict
from midstreamer.market import baselines, bootstrap
from midstreamer.market.backtest import Memory, Points

Judgement = dict[str, Any]
"""The result of judging: a dict that can be encoded as JSON."""


class _Judged(NamedTuple):
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
    judged = _judged([pair for pair in pairs if pair[0].time >= begin], draws)
    judgement = _summary(judged, begin)
    judgement["rivals"] = [] if series is None else _rivals(judged, series, seasons)
    judgement["winners"] = [rival["name"] for rival in judgement["rivals"] if rival["wins"]]
    return judgement


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


def _judged(pairs: list[tuple[Decision, Verdict]], draws: int) -> _Judged:
    """Return the pairs with the arrays that the figures need."""
    if not pairs:
        raise BadInput("no decision with a verdict is left to judge: choose an earlier time")
    times = np.array([decision.time for decision, _ in pairs])
    return _Judged(
        pairs=pairs,
        blocks=bootstrap.Blocks(times, pairs[0][0].specification.horizon, draws=draws),
        rose=np.array([float(verdict.change > 0.0) for _, verdict in pairs]),
        hit=np.array([float(verdict.hit) for _, verdict in pairs]),
        emitted=np.array([float(decision.emitted) for decision, _ in pairs]),
        confidence=np.array([decision.confidence for decision, _ in pairs]),
        brier=np.array([verdict.brier for _, verdict in pairs]),
        base_brier=np.array([verdict.brier_arms[0] for _, verdict in pairs]),
    )


def _summary(judged: _Judged, begin: int) -> Judgement:
    """Return all figures except those of the rivals."""
    specification = judged.pairs[0][0].specification
    bounded = np.array([float(math.isfinite(d.high - d.low)) for d, _ in judged.pairs])
    covered = bounded * np.array([float(verdict.covered) for _, verdict in judged.pairs])
    ones, blocks = np.ones(len(judged.pairs)), judged.blocks
    rises = judged.rose.mean()
    return {
        "universe": specification.universe,
        "stream": specification.stream,
        "after": begin,
        "decisions": len(judged.pairs),
        "emitted": int(judged.emitted.sum()),
        "target": specification.target,
        "precision": _shown(blocks.ratio(judged.hit * judged.emitted, judged.emitted)),
        "base_rate": float(max(rises, 1.0 - rises)),
        "hit": _shown(blocks.ratio(judged.hit, ones)),
        "coverage_target": specification.coverage,
        "coverage": _shown(blocks.ratio(covered, bounded)),
        "winkler": _mean_winkler(judged),
        "brier": float(judged.brier.mean()),
        "brier_climatology": float(judged.base_brier.mean()),
        "brier_skill": _shown(1.0 - blocks.ratio(judged.brier, judged.base_brier)),
        "fixed_threshold": _hindsight(judged, specification.target),
    }


def _shown(ratios: Floats) -> dict[str, float] | None:
    """Return a figure with its interval as a dict; None when there is none."""
    figure = bootstrap.figure(ratios)
    return None if figure is None else figure._asdict()


def _mean_winkler(judged: _Judged) -> float | None:
    """Return the mean interval score of the finite intervals; None when there are none."""
    finite = [verdict.winkler for _, verdict in judged.pairs if math.isfinite(verdict.winkler)]
    return float(np.mean(finite)) if finite else None


def _hindsight(judged: _Judged, target: float) -> Judgement:
    """Return what the lowest confidence threshold that keeps the target would have given."""
    order = np.argsort(-judged.confidence, kind="stable")
    confidence = judged.confidence[order]
    precision = np.cumsum(judged.hit[order]) / np.arange(1, len(order) + 1)
    # A threshold accepts either all decisions of equal confidence or none of them.
    ends = np.append(confidence[1:] < confidence[:-1], True)
    held = np.flatnonzero(ends & (precision >= target))
    count = int(held[-1]) + 1 if held.size else 0
    return {
        "emitted": count,
        "confidence": float(confidence[count - 1]) if count else None,
        "share": float(judged.emitted.sum() / count) if count else None,
    }


def _rivals(
    judged: _Judged, series: Mapping[str, Points], seasons: Sequence[int]
) -> list[Judgement]:
    """Return the figures of every rival."""
    memory = Memory(series, judged.pairs[0][0].specification)
    row = {name: place for place, name in enumerate(memory.names)}
    cases = baselines.Cases(
        memory=memory,
        row=np.array([row[decision.series] for decision, _ in judged.pairs]),
        index=np.array([decision.index for decision, _ in judged.pairs]),
        time=np.array([decision.time for decision, _ in judged.pairs]),
        scale=np.array([decision.scale for decision, _ in judged.pairs]),
        base=np.array([decision.arms[0] for decision, _ in judged.pairs]),
    )
    return [_beside(judged, rival) for rival in baselines.all_of(cases, seasons)]


def _beside(judged: _Judged, rival: baselines.Rival) -> Judgement:
    """Return the figures of one rival, on the same decisions and bootstrap draws as ours."""
    blocks, ones = judged.blocks, np.ones(len(judged.pairs))
    change = np.array([verdict.change for _, verdict in judged.pairs])
    hit = (np.sign(rival.lean) * np.sign(change) > 0.0).astype(float)
    chosen = _most_confident(rival.lean, int(judged.emitted.sum()))
    ours = blocks.ratio(judged.hit, ones)
    precision = blocks.ratio(judged.hit * judged.emitted, judged.emitted)
    theirs, same_count = blocks.ratio(hit, ones), blocks.ratio(hit * chosen, chosen)
    compared = {"hit": theirs - ours, "precision": same_count - precision}
    skill = None
    if rival.probability is not None:
        loss = (rival.probability - judged.rose) ** 2
        skill = 1.0 - blocks.ratio(loss, judged.base_brier)
        compared["brier"] = skill - (1.0 - blocks.ratio(judged.brier, judged.base_brier))
    return {
        "name": rival.name,
        "hit": _shown(theirs),
        "hit_on_emitted": _shown(blocks.ratio(hit * judged.emitted, judged.emitted)),
        "precision_same_count": _shown(same_count),
        "brier_skill": None if skill is None else _shown(skill),
        "ahead_by": {name: _shown(ratios) for name, ratios in compared.items()},
        "wins": [name for name, ratios in compared.items() if ratios[0] > 0.0],
        "wins_clearly": [name for name, ratios in compared.items() if _above_zero(ratios)],
    }


def _most_confident(lean: Floats, count: int) -> Floats:
    """Return 1 for the ``count`` largest absolute leans and 0 for the others."""
    chosen = np.zeros(len(lean))
    sureness = np.where(np.isnan(lean), -1.0, np.abs(lean))
    chosen[np.argsort(-sureness, kind="stable")[:count]] = 1.0
    return chosen


def _above_zero(ratios: Floats) -> bool:
    """Return whether the whole interval of a difference lies above zero."""
    figure = bootstrap.figure(ratios)
    return figure is not None and figure.low > 0.0


def rendered(judgement: Judgement) -> Table:
    """Return the judgement as a table for people."""
    fixed = judgement["fixed_threshold"]
    table = Table(
        title=f"{judgement['universe']}: {judgement['decisions']:,} decisions judged,"
        f" {judgement['emitted']:,} signals"
        f" (a fixed threshold in hindsight: {fixed['emitted']:,})",
        caption=_verdict_on_rivals(judgement),
    )
    table.add_column("")
    for heading in ("hit, all", "hit, signals", "precision", "Brier skill", "coverage"):
        table.add_column(heading, justify="right")
    table.add_row(
        "midstreamer",
        _percent(judgement["hit"]),
        _percent(judgement["precision"]),
        f"{_percent(judgement['precision'])} of {judgement['target']:.1%}",
        _percent(judgement["brier_skill"]),
        f"{_percent(judgement['coverage'])} of {judgement['coverage_target']:.1%}",
    )
    for rival in judgement["rivals"]:
        table.add_row(
            rival["name"],
            _percent(rival["hit"]),
            _percent(rival["hit_on_emitted"]),
            _percent(rival["precision_same_count"]),
            _percent(rival["brier_skill"]),
            "",
        )
    return table


def _percent(figure: Mapping[str, float] | None) -> str:
    """Return a figure with its interval as percentages."""
    if figure is None:
        return "-"
    return f"{figure['value']:.1%} [{figure['low']:.1%}, {figure['high']:.1%}]"


def _verdict_on_rivals(judgement: Judgement) -> str:
    """Return one line that names the rivals that do better, or says that none does."""
    if not judgement["rivals"]:
        return ""
    ahead = [
        f"{rival['name']} ({', '.join(_emphasis(rival, name) for name in rival['wins'])})"
        for rival in judgement["rivals"]
        if rival["wins"]
    ]
    return f"better than midstreamer: {'; '.join(ahead)}" if ahead else "no rival does better"


def _emphasis(rival: Judgement, name: str) -> str:
    """Return the name of a figure, marked when the rival is clearly better."""
    return f"{name}, clearly" if name in rival["wins_clearly"] else name
