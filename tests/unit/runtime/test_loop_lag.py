"""A blocked event loop is measured as lag; the measurement ends with its `with` block."""

from __future__ import annotations

import asyncio
import time

from midstreamer.runtime import loop_lag
from midstreamer.telemetry import metrics
from tests.support.metric_values import shown

HELD_S = 0.06
PERIOD_S = 0.01


def lag_totals() -> tuple[float, float]:
    return shown(metrics.LOOP_LAG_S, "_count"), shown(metrics.LOOP_LAG_S, "_sum")


async def seen(count: float) -> None:
    async with asyncio.timeout(10):
        while lag_totals()[0] < count:  # noqa: ASYNC110 - a metric has no event
            await asyncio.sleep(PERIOD_S)


async def test_whatever_holds_the_loop_up_makes_a_timer_late_by_as_much() -> None:
    count, late_s = lag_totals()
    with loop_lag.watched(period_s=PERIOD_S):
        time.sleep(HELD_S)  # noqa: ASYNC251 - this is what is to be seen
        await seen(count + 1)
    assert lag_totals()[1] - late_s >= HELD_S - PERIOD_S


async def test_it_looks_again_and_again_until_the_block_ends() -> None:
    count, _ = lag_totals()
    with loop_lag.watched(period_s=PERIOD_S):
        await seen(count + 3)
    count, _ = lag_totals()
    await asyncio.sleep(3 * PERIOD_S)
    assert lag_totals()[0] == count
