"""Tally: counts the events of a replay, and keeps its decisions so that they can be judged later.

It takes the events of `market.replay`. Each decision is kept without its window and its analogs;
this takes about 700 bytes. A verdict counts once, even if it is reported twice. A void verdict does
not count. `report` computes the published figures from a tally.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from midstreamer.domain.decision import Decision
from midstreamer.domain.match import Matches
from midstreamer.domain.verdict import Verdict
from midstreamer.market import replay

_BUCKETS_PER_DOUBLING = 32
"""Number of buckets between a duration and its double. With so many, a recorded duration is wrong
by at most 1.1 %."""

Settled: TypeAlias = tuple[Decision, Verdict]
"""A decision and its verdict."""


class Latencies:
    """Durations of requests, counted in logarithmic buckets."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.most_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one duration."""
        bounded_s = max(duration_s, 1e-9)
        self._counts[math.floor(math.log2(bounded_s) * _BUCKETS_PER_DOUBLING)] += 1
        self.count += 1
        self.most_s = max(self.most_s, duration_s)

    def quantile_s(self, share: float) -> float:
        """Return a quantile of the durations, in seconds; 0 if there are no durations.

        ``share`` (0 to 1) says which quantile: 0.5 is the median.
        """
        left = share * self.count
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return float(min(2.0 ** ((bucket + 0.5) / _BUCKETS_PER_DOUBLING), self.most_s))
        return self.most_s


@dataclass
class Tally:
    """What has been counted in one replay so far, and the decisions kept from it."""

    history: int = 0
    """Number of ticks of the history (the ticks before the first step) that were sent so far.

    Ticks that an earlier run had stored are sent and counted too.
    """
    steps: int = 0
    ticks: int = 0
    decisions: int = 0
    repeated: int = 0
    """Number of decisions that an earlier run had stored."""
    outages: int = 0
    """Number of times that a request of the replay failed and was tried again."""
    first_time: int | None = None
    last_time: int | None = None
    signals: Counter[str] = field(default_factory=Counter)
    """Number of signals by direction."""
    abstentions: Counter[str] = field(default_factory=Counter)
    """Number of abstentions by reason."""
    settled: list[Settled] = field(default_factory=list)
    """Decisions that have a verdict, each with its verdict. Void verdicts are left out."""
    judged: int = 0
    """Number of signals that have a verdict."""
    right: int = 0
    """Number of signals whose verdict says that they were right."""
    append: Latencies = field(default_factory=Latencies)
    match: Latencies = field(default_factory=Latencies)
    pending: dict[bytes, Decision] = field(default_factory=dict)
    """Decisions whose verdict has not arrived, by experience id.

    A verdict arrives ``horizon`` points after its decision, so each series has at most ``horizon``
    of them.
    """

    def take(self, event: replay.Event) -> None:
        """Count one event of the replay."""
        match event:
            case replay.Loading():
                self.history = event.done
            case replay.Waiting():
                self.outages += 1
            case replay.Resumed():
                self.repeated += len(event.decisions)
                self.ticks += event.ticks
                self.steps = event.done
                self._decided(event.decisions, event.verdicts)
            case replay.Stepped():
                self.ticks += event.ticks
                self.steps = event.done
                self.append.add(event.append_s)
                if event.match_s > 0:
                    self.match.add(event.match_s)
                self._decided(event.decisions, event.verdicts)

    def _decided(self, decisions: tuple[Decision, ...], verdicts: tuple[Verdict, ...]) -> None:
        """Count decisions and verdicts."""
        for decision in decisions:
            self.decisions += 1
            if decision.direction is not None:
                self.signals[decision.direction] += 1
            elif decision.reason is not None:
                self.abstentions[decision.reason] += 1
            if decision.settles:
                kept = msgspec.structs.replace(decision, matches=Matches(), window=b"")
                self.pending[decision.experience_id] = kept
            if self.first_time is None:
                self.first_time = decision.time
            self.last_time = decision.time
        for verdict in verdicts:
            self.judge(verdict)

    def judge(self, verdict: Verdict) -> None:
        """Count one verdict. Ignore a void verdict, and a verdict that was counted before."""
        decision = self.pending.pop(verdict.experience_id, None)
        if decision is not None and not verdict.void:
            self.settled.append((decision, verdict))
            self.right += decision.emitted and verdict.hit
            self.judged += decision.emitted
