"""Adaptive pattern matching: one window in, a signal or nothing out.

The adapting happens in the fleet: each decision is stored, its outcome is judged when the
horizon has passed, and thresholds, intervals and the mixture learn from that.  Nothing is kept
here but the last decision, which says why there was no signal.
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
"""The time of a window that belongs to no series: all that is known counts."""


class TradingSignal(msgspec.Struct, frozen=True):
    """What is said about the horizon after a window, with the evidence."""

    direction: Direction
    confidence: float
    """P that the direction comes, 0.5 to 1; right as often as it says."""
    change: float
    """Foretold change over the horizon; a share of the value where the transform is log."""
    low: float
    high: float
    """Interval that holds the change with probability ``specification.coverage``."""
    experience_id: bytes
    matches: Matches
    """The analogs, nearest first, each with what followed it."""
    series: str = ""
    """Empty when unsettled: then no verdict will come and nothing is learned."""
    time: int = 0


def signal_of(decision: Decision) -> TradingSignal | None:
    """The signal of a decision; None when it abstained."""
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
    """Signals under one specification, for code with an event loop."""

    def __init__(self, client: AsyncClient, specification: Specification) -> None:
        self.client = client
        self.specification = check(specification)
        self.last_decision: Decision | None = None
        """The last decision, abstentions too; its ``reason`` says why nothing was said."""

    async def match_pattern(
        self,
        window: Iterable[float] | Floats,
        *,
        series: str | None = None,
        time: int | None = None,
    ) -> TradingSignal | None:
        """Compare a window with history; None when nothing trustworthy can be said.

        With ``series`` and ``time`` (event time of the last value, which must be appended) the
        decision is settled and learned from; without, it is marked unsettled and is not.
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
    """Signals under one specification, for code without an event loop."""

    def __init__(self, client: Client, specification: Specification) -> None:
        self.client = client
        self._matcher = AsyncAdaptivePatternMatcher(client.asynchronous, specification)

    @property
    def specification(self) -> Specification:
        """What is compared and foretold."""
        return self._matcher.specification

    @property
    def last_decision(self) -> Decision | None:
        """The last decision, abstentions too; its ``reason`` says why nothing was said."""
        return self._matcher.last_decision

    def match_pattern(
        self,
        window: Iterable[float] | Floats,
        *,
        series: str | None = None,
        time: int | None = None,
    ) -> TradingSignal | None:
        """See `AsyncAdaptivePatternMatcher.match_pattern`."""
        return self.client.call(self._matcher.match_pattern(window, series=series, time=time))
