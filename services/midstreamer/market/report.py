"""The report of a run: the figures printed at its end, and the same figures as JSON.

Shares have 95 % intervals from a block bootstrap over time. Decisions of one time, and decisions
with overlapping horizons, are dependent; counting each as an independent trial would make every
interval too narrow. ``midstreamer run --json-schema`` prints the schema of `Report`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from midstreamer.domain.decision import Decision
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.market import bootstrap
from midstreamer.market.judgement_values import Figure, Judgement
from midstreamer.market.replay_tally import Latencies, Settled, Tally
from midstreamer.market.tick_rows import instant

REPORT_VERSION = 1
"""Version of the report's layout."""
_Z = 1.96
"""A standard normal variable lies between -1.96 and 1.96 with a probability of 95 %."""

Rule: TypeAlias = Callable[[Decision, Verdict], bool]
"""Condition on a settled decision and its verdict, for example: the forecast was right.

A `Share` uses two conditions. One selects the decisions of its denominator, and the other selects
from these the decisions of its numerator."""


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of decisions with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Number of decisions in the denominator of the share."""


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Durations of all requests of one kind, measured by the client, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    count: int
    """Number of durations measured."""


class Rival(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another forecasting method, judged on the same decisions."""

    name: str
    hit: Figure | None
    """The rival's hit rate: the share of all decisions for which its direction was right."""
    precision_same_count: Figure | None
    """The rival's hit rate on its n most confident forecasts, where n is the number of signals."""
    brier_skill: Figure | None
    """The rival's Brier skill over climatology; none when the rival gives no probabilities."""
    wins: tuple[str, ...]
    """The figures in which the rival was better: any of ``hit``, ``precision`` and ``brier``.

    ``precision`` stands for `precision_same_count`, and ``brier`` stands for `brier_skill`.
    """
    wins_clearly: tuple[str, ...]
    """Figures in which the rival was clearly better: the 95 % interval of its lead over Midstreamer
    lies wholly above 0."""


class JudgedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of the replay's second half, for Midstreamer and for its rivals.

    In the first half the stream learns, so that half is not judged.
    """

    after: str
    """ISO time of the first decision that is judged."""
    decisions: int
    """Number of decisions judged."""
    emitted: int
    """Number of signals among the decisions judged."""
    precision: Figure | None
    hit: Figure | None
    coverage: Figure | None
    brier_skill: Figure | None
    fixed_threshold_emitted: int
    """Number of signals that a fixed confidence threshold would have given.

    The threshold is chosen afterwards, when all verdicts are known. It is the lowest threshold
    whose signals would have kept the target precision.
    """
    rivals: tuple[Rival, ...]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The figures of one replayed data set."""

    data: str
    """Name of the data set, or the path of the file that was replayed."""
    specification: Specification
    complete: bool
    """False when the replay was stopped before its end."""
    first: str | None
    """ISO time of the first decision; none without decisions."""
    last: str | None
    """ISO time of the last decision; none without decisions."""
    duration_s: float
    history_ticks: int
    steps: int
    ticks: int
    decisions: int
    decisions_repeated: int
    """Decisions that an earlier run had stored, and that were not matched again."""
    outages: int
    """Number of times that a request of the replay failed and was tried again."""
    signals: dict[str, int]
    """Number of signals by direction."""
    abstentions: dict[str, int]
    """Number of abstentions by reason."""
    verdicts: int
    """Number of decisions with a verdict."""
    pending: int
    """Number of decisions without a verdict yet."""
    precision: Share | None
    """Share of right signals among the signals with a verdict; none if there are none."""
    precision_target: float
    """The target that the specification sets for the precision."""
    base_rate: Share | None
    """Hit rate of a method that always forecasts the more frequent direction of the outcomes."""
    rises: Share | None
    """Share of decisions whose outcome was a rise."""
    hit: Share | None
    """Share of all decisions, abstentions included, whose favoured direction was right."""
    coverage: Share | None
    """Share of the finite prediction intervals that contained the change which followed."""
    coverage_target: float
    """The coverage that the specification asks for."""
    brier: float | None
    """Mean Brier score of the decisions."""
    brier_climatology: float | None
    """Mean Brier score of climatology on the same decisions."""
    brier_skill: float | None
    """1 - brier / brier_climatology; above 0 is better than climatology."""
    match: Latency | None
    """Duration of match requests; none when nothing was matched."""
    append: Latency | None
    """Duration of append requests."""
    judged: JudgedPart | None = None
    """Figures of the replay's second half, with rivals; none when there were too few verdicts."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the data of the run are, and how much is stored."""

    state: str
    database: str
    logs: str
    certificates: str
    ticks: int = 0
    decisions: int = 0
    verdicts: int = 0


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The report of one ``midstreamer run``."""

    report_version: int = REPORT_VERSION
    midstreamer: str
    engine: str
    agents: int
    interrupted: bool
    """Whether the run was stopped before its end."""
    duration_s: float
    """Seconds that the run took, including start-up and stop."""
    parts: tuple[Part, ...]
    kept: Kept


def encode(report: Report) -> bytes:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def schema() -> bytes:
    """Return the JSON Schema of a report."""
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
    """Return the figures of one replay."""
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
    """Return the published figures of measured durations; none when nothing was measured."""
    if latencies.count == 0:
        return None
    p50_ms, p99_ms = (1000 * latencies.quantile_s(share) for share in (0.5, 0.99))
    return Latency(p50_ms, p99_ms, 1000 * latencies.most_s, latencies.count)


def _majority(rises: Share | None) -> Share | None:
    """Return the share of the more frequent direction, given the share of rises."""
    if rises is None or rises.value >= 0.5:
        return rises
    return Share(1.0 - rises.value, 1.0 - rises.high, 1.0 - rises.low, rises.count)


def _any(decision: Decision, verdict: Verdict) -> bool:
    """Return True for every settled decision."""
    return True


def _hit(decision: Decision, verdict: Verdict) -> bool:
    """Return whether the direction that the decision favoured was right."""
    return verdict.hit


def _bounded(decision: Decision, verdict: Verdict) -> bool:
    """Return whether the prediction interval is finite.

    An infinite interval covers every change, so it says nothing about the coverage.
    """
    return math.isfinite(decision.high - decision.low)


def _means(settled: Sequence[Settled]) -> tuple[float | None, float | None]:
    """Return the mean Brier scores of the decisions and of climatology; None without decisions."""
    if not settled:
        return None, None
    rows = [(verdict.brier, verdict.brier_arms[0]) for _, verdict in settled]
    ours, climatology = np.asarray(rows, dtype=np.float64).mean(axis=0).tolist()
    return ours, climatology


def share_of(times: Sequence[int], wins: Sequence[bool], horizon: int) -> Share | None:
    """Return the share of True among ``wins``, with its 95 % interval; None without decisions.

    Decision i was made at ``times[i]`` and counts as True if ``wins[i]``.
    """
    if not times:
        return None
    moments = np.asarray(times, dtype=np.int64)
    won = np.asarray(wins, dtype=np.float64)
    value, steps = float(won.mean()), len(np.unique(moments))
    block = max(2 * horizon, bootstrap.BLOCK_MIN)
    if steps < 3 * block or value in (0.0, 1.0):
        # The bootstrap gives no useful interval for few blocks, or if all values are equal.
        # Use the Wilson interval instead, with each block as one independent trial.
        low, high = wilson(value, max(1.0, steps / block))
    else:
        blocks = bootstrap.Blocks(moments, horizon)
        interval = bootstrap.figure(blocks.ratio(won, np.ones(len(won))))
        low, high = (interval.low, interval.high) if interval is not None else (0.0, 1.0)
    return Share(value, low, high, len(times))


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share of ``trials`` independent trials."""
    spread = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    centre, shrink = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return float(max(0.0, (centre - spread) / shrink)), float(min(1.0, (centre + spread) / shrink))


def judged_of(judgement: Judgement) -> JudgedPart:
    """Return the result of `market.judge` in the layout of the report."""
    rivals = [
        Rival(**{name: getattr(rival, name) for name in Rival.__struct_fields__})
        for rival in judgement.rivals
    ]
    return JudgedPart(
        after=instant(judgement.after),
        decisions=judgement.decisions,
        emitted=judgement.emitted,
        precision=judgement.precision,
        hit=judgement.hit,
        coverage=judgement.coverage,
        brier_skill=judgement.brier_skill,
        fixed_threshold_emitted=judgement.fixed_threshold.emitted,
        rivals=tuple(rivals),
    )
