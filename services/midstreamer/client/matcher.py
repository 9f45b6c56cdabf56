"""Adaptive pattern matching: send one window, get a signal or None.

The fleet does the learning, not the client.  It stores each decision and compares the decision with
its outcome after the horizon has passed.  From this comparison it learns thresholds, intervals and
the weights of the forecasting methods (arms).  A matcher keeps only the last decision, which has
the reason why there was no signal.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from midstreamer.client.api import AsyncClient
from midstreamer.client.blocking import Client
from midstreamer.domain.decision import Decision, Direction
from midstreamer.domain.errors import BadInput
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats
from midstreamer.domain.specification import Specification, check

LATEST = 2**63 - 1
"""Time given to a window that belongs to no series.  It is later than the time of any stored point,
so the whole history is searched."""


class TradingSignal(msgspec.Struct, frozen=True):
    """The forecast of the change over the horizon after a window, with the analogs behind it."""

    direction: Direction
    confidence: float
    """Calibrated probability, 0.5 to 1, that the change has the direction of this signal."""
    change: float
    """Forecast change over the horizon; a relative change if the transform is log."""
    low: float
    high: float
    """``low`` and ``high`` are the limits of the interval that contains the change with the
    probability ``specification.coverage``."""
    experience_id: bytes
    matches: Matches
    """The analogs, nearest first, each with its outcome."""
    series: str = ""
    """Series of the window; empty if the window belongs to no series.  A decision without a series
    never gets a verdict, and nothing is learned from it."""
    time: int = 0


def signal_of(decision: Decision) -> TradingSignal | None:
    """Return the signal of a decision; None when the decision is an abstention."""
    if decision.direction is None:
        return None
    return TradingSignal(
        decision.direction,
        decision.confidence,
        decision.change,
        decision.low,
        decision.high,
        decision.experience_id,
        decision.matches,
        decision.series,
        decision.time,
    )


class AsyncAdaptivePatternMatcher:
    """Returns signals under one specification, for asyncio code."""

    def __init__(self, client: AsyncClient, specification: Specification) -> None:
        self.client = client
        self.specification = check(specification)
        self.last_decision: Decision | None = None
        """The last decision.  If it is an abstention, its ``reason`` says why."""

    async def match_pattern(
        self,
        window: Iterable[float] | Floats,
        *,
        series: str | None = None,
        time: int | None = None,
    ) -> TradingSignal | None:
        """Compare a window with the stored history; return a signal, or None for an abstention.

        ``time`` is the event time of the last value of the window.  The tick with that value must
        have been appended before.  With ``series`` and ``time``, the decision gets a verdict later
        and the fleet learns from it.  Give both or neither: with neither, there is no verdict, and
        the fleet learns nothing.
        """
        if (series is None) != (time is None):
            raise BadInput(
                f"match_pattern got series={series!r} and time={time!r}: give both, or neither"
            )
        self.last_decision = await self.client.match(
            series or "", LATEST if time is None else time, window, self.specification
        )
        return signal_of(self.last_decision)


class AdaptivePatternMatcher:
    """Returns signals under one specification, for code without an event loop."""

    def __init__(self, client: Client, specification: Specification) -> None:
        self.client = client
        self._matcher = AsyncAdaptivePatternMatcher(client.asynchronous, specification)

    @property
    def specification(self) -> Specification:
        """The specification under which windows are compared and decided."""
        return self._matcher.specification

    @property
    def last_decision(self) -> Decision | None:
        """The last decision.  If it is an abstention, its ``reason`` says why."""
        return self._matcher.last_decision

    def match_pattern(
        self,
        window: Iterable[float] | Floats,
        *,
        series: str | None = None,
        time: int | None = None,
    ) -> TradingSignal | None:
        """Return a signal or None; see `AsyncAdaptivePatternMatcher.match_pattern`."""
        return self.client.call(self._matcher.match_pattern(window, series=series, time=time))
