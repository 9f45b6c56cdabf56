"""The report of a run: the figures a person reads at its end, and the same as JSON.

Shares carry 95 % intervals from a block bootstrap over time: decisions of one time, and those
whose horizons overlap, fall together, so counting each as a trial of its own would make every
interval too narrow.  ``midstreamer run --json-schema`` prints the schema of `Report`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.market import bootstrap
from midstreamer.market.rows import instant
from midstreamer.market.tally import Latencies, Settled, Tally

REPORT_VERSION = 1
_Z = 1.96

Rule: TypeAlias = Callable[[Decision, Verdict], bool]


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of decisions with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """How many decisions it is a share of."""


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Durations seen by the client, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    count: int


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Rival(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another way of foretelling, judged on the same decisions."""

    name: str
    hit: Figure | None
    """Share of all decisions whose direction it foretold."""
    precision_same_count: Figure | None
    """The same among as many of its own surest as there were signals of ours."""
    brier_skill: Figure | None
    wins: tuple[str, ...]
    """In what it did better than Midstreamer: hit, precision, brier."""
    wins_clearly: tuple[str, ...]
    """In what the whole interval of the difference says so."""


class JudgedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second half of the replay, once there was something learned, beside the rivals."""

    after: str
    decisions: int
    emitted: int
    precision: Figure | None
    hit: Figure | None
    coverage: Figure | None
    brier_skill: Figure | None
    fixed_threshold_emitted: int
    """Signals that the best fixed threshold, chosen in hindsight, would have given."""
    rivals: tuple[Rival, ...]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One replayed data set."""

    data: str
    specification: Specification
    complete: bool
    """False when it was stopped before its end."""
    first: str | None
    """ISO time of the first decision; none when nothing was decided."""
    last: str | None
    duration_s: float
    history_ticks: int
    steps: int
    ticks: int
    decisions: int
    decisions_repeated: int
    """Of them, stored by an earlier run and not matched again."""
    outages: int
    signals: dict[str, int]
    abstentions: dict[str, int]
    verdicts: int
    pending: int
    """Decisions whose outcome is not known yet."""
    precision: Share | None
    """Of the signals with a verdict, how many came as said; none without signals."""
    precision_target: float
    base_rate: Share | None
    """How often the direction that came more often came: what saying always the same would hit."""
    rises: Share | None
    hit: Share | None
    """Of all decisions, abstentions included, how many favoured the side that came."""
    coverage: Share | None
    """Of the finite prediction intervals, how many held what happened."""
    coverage_target: float
    brier: float | None
    brier_climatology: float | None
    brier_skill: float | None
    """1 - brier / brier_climatology; above 0 is better than the share of past rises."""
    match: Latency | None
    append: Latency | None
    judged: JudgedPart | None = None
    """None when too few verdicts came to judge by."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where everything is, after the run."""

    state: str
    database: str
    logs: str
    certificates: str
    ticks: int = 0
    decisions: int = 0
    verdicts: int = 0


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run of ``midstreamer run``."""

    report_version: int = REPORT_VERSION
    midstreamer: str
    engine: str
    agents: int
    interrupted: bool
    duration_s: float
    """Start-up and stop included."""
    parts: tuple[Part, ...]
    kept: Kept


def encode(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def schema() -> bytes:
    """The JSON Schema of a report."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Report)), indent=2) + b"\n"


def part(
    data: str,
    specification: Specification,
    tally: Tally,
    *,
    duration_s: float,
    complete: bool,
    judged: JudgedPart | None = None,
) -> Part:
    """The figures of one tally."""
    settled, horizon = tally.settled, specification.horizon

    def share(wins: Rule, among: Rule = _any) -> Share | None:
        rows = [pair for pair in settled if among(*pair)]
        return share_of([row.time for row, _ in rows], [wins(*pair) for pair in rows], horizon)

    rises = share(lambda _, verdict: verdict.change > 0)
    brier, climatology = _means(settled)
    return Part(
        data=data,
        specification=specification,
        complete=complete,
        first=None if tally.first_time is None else instant(tally.first_time),
        last=None if tally.last_time is None else instant(tally.last_time),
        duration_s=duration_s,
        history_ticks=tally.history,
        steps=tally.steps,
        ticks=tally.ticks,
        decisions=tally.decisions,
        decisions_repeated=tally.repeated,
        outages=tally.outages,
        signals=dict(tally.signals),
        abstentions=dict(tally.abstentions),
        verdicts=len(settled),
        pending=len(tally.pending),
        precision=share(_hit, lambda decision, _: decision.emitted),
        precision_target=specification.target,
        base_rate=_majority(rises),
        rises=rises,
        hit=share(_hit),
        coverage=share(lambda _, verdict: verdict.covered, _bounded),
        coverage_target=specification.coverage,
        brier=brier,
        brier_climatology=climatology,
        brier_skill=1.0 - brier / climatology if brier is not None and climatology else None,
        match=latency_of(tally.match),
        append=latency_of(tally.append),
        judged=judged,
    )


def latency_of(latencies: Latencies) -> Latency | None:
    """The published figures of latencies; none when nothing was measured."""
    if latencies.count == 0:
        return None
    p50_ms, p99_ms = (1000 * latencies.quantile_s(share) for share in (0.5, 0.99))
    return Latency(p50_ms, p99_ms, 1000 * latencies.most_s, latencies.count)


def _majority(rises: Share | None) -> Share | None:
    if rises is None or rises.value >= 0.5:
        return rises
    return Share(1.0 - rises.value, 1.0 - rises.high, 1.0 - rises.low, rises.count)


def _any(decision: Decision, verdict: Verdict) -> bool:
    return True


def _hit(decision: Decision, verdict: Verdict) -> bool:
    return verdict.hit


def _bounded(decision: Decision, verdict: Verdict) -> bool:
    """An infinite interval covers everything and proves nothing."""
    return math.isfinite(decision.high - decision.low)


def _means(settled: Sequence[Settled]) -> tuple[float | None, float | None]:
    """Mean Brier losses: ours, and climatology's, the first of the arms."""
    if not settled:
        return None, None
    rows = [(verdict.brier, verdict.brier_arms[0]) for _, verdict in settled]
    ours, climatology = np.asarray(rows, dtype=np.float64).mean(axis=0).tolist()
    return ours, climatology


def share_of(times: Sequence[int], wins: Sequence[bool], horizon: int) -> Share | None:
    """A share with its 95 % interval; none of nothing."""
    if not times:
        return None
    moments = np.asarray(times, dtype=np.int64)
    won = np.asarray(wins, dtype=np.float64)
    value, steps = float(won.mean()), len(np.unique(moments))
    block = max(2 * horizon, bootstrap.BLOCK_MIN)
    if steps < 3 * block or value in (0.0, 1.0):
        # A bootstrap of few or equal blocks knows no spread: as many trials as there are blocks.
        low, high = wilson(value, max(1.0, steps / block))
    else:
        blocks = bootstrap.Blocks(moments, horizon)
        made = bootstrap.figure(blocks.ratio(won, np.ones(len(won))))
        _, low, high = made if made is not None else (value, 0.0, 1.0)
    return Share(value, low, high, len(times))


def wilson(share: float, trials: float) -> tuple[float, float]:
    """The Wilson 95 % interval of a share of so many independent trials."""
    spread = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    centre, shrink = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return float(max(0.0, (centre - spread) / shrink)), float(min(1.0, (centre + spread) / shrink))


def judged_of(judgement: Mapping[str, Any]) -> JudgedPart:
    """What `market.judge` found, as it is published."""
    known = {name: judgement[name] for name in JudgedPart.__struct_fields__ if name in judgement}
    rivals = [
        {name: rival[name] for name in Rival.__struct_fields__} for rival in judgement["rivals"]
    ]
    known |= {
        "after": instant(judgement["after"]),
        "fixed_threshold_emitted": judgement["fixed_threshold"]["emitted"],
        "rivals": rivals,
    }
    return msgspec.convert(known, JudgedPart)
