"""The result of judging decisions, as values: `market.judge` computes it, `console` shows it."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Threshold(msgspec.Struct, frozen=True):
    """The lowest fixed confidence threshold whose signals would have kept the target precision.

    It is chosen in hindsight, from the verdicts.
    """

    emitted: int
    """Number of signals that the threshold would have given."""
    confidence: float | None
    """The threshold; None when no threshold would have kept the target precision."""
    share: float | None
    """Number of signals that Midstreamer gave, divided by ``emitted``; None if ``emitted`` is 0."""


class RivalJudgement(msgspec.Struct, frozen=True):
    """Another forecasting method, judged on the same decisions."""

    name: str
    hit: Figure | None
    """Share of all decisions for which the rival's forecast (rise or fall) was right."""
    hit_on_emitted: Figure | None
    """The rival's hit rate on the decisions where Midstreamer gave a signal."""
    precision_same_count: Figure | None
    """The rival's hit rate on the decisions where the rival was most confident.

    As many decisions are taken as Midstreamer gave signals.
    """
    brier_skill: Figure | None
    """The rival's Brier skill over climatology; none when the rival gives no probabilities."""
    ahead_by: dict[str, Figure | None]
    """The rival's figure minus Midstreamer's; above 0 the rival is better.

    The keys are ``hit``, ``precision`` (`precision_same_count` minus Midstreamer's precision) and
    ``brier`` (the Brier skill).
    """
    wins: tuple[str, ...]
    """Figures (keys of ``ahead_by``) in which the rival did better than Midstreamer."""
    wins_clearly: tuple[str, ...]
    """Figures in which the whole 95 % interval of the difference favours the rival."""


class Judgement(msgspec.Struct, frozen=True):
    """Figures of the judged decisions of one stream, and of every rival on the same decisions."""

    universe: str
    stream: str
    after: int
    """Decisions at this time or later are judged; in microseconds since 1970-01-01 UTC."""
    decisions: int
    """Number of decisions judged."""
    emitted: int
    """Number of signals among the decisions judged."""
    target: float
    """Precision that the specification asks of signals."""
    precision: Figure | None
    """Share of signals whose direction was right; none without signals."""
    base_rate: float
    """Share of decisions that the better of "always LONG" and "always SHORT" gets right."""
    hit: Figure | None
    """Share of all decisions whose direction was forecast correctly."""
    coverage_target: float
    coverage: Figure | None
    """Share of finite intervals that held the outcome."""
    winkler: float | None
    """Mean interval score of the finite intervals; none without finite intervals."""
    brier: float
    """Mean Brier score of the forecasts."""
    brier_climatology: float
    """Mean Brier score of climatology, which forecasts the share of past rises."""
    brier_skill: Figure | None
    """1 - brier / brier_climatology; above 0 is better than climatology."""
    fixed_threshold: Threshold
    rivals: tuple[RivalJudgement, ...] = ()
    winners: tuple[str, ...] = ()
    """Names of the rivals that did better in some figure."""
