"""`tasks`: a loop that fails is restarted or ends its task group, as its declaration says."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.runtime import tasks
from midstreamer.telemetry import metrics


def failures(task: str) -> float:
    return metrics.REGISTRY.get_sample_value("midstreamer_task_failures_total", {"task": task}) or 0


@pytest.mark.looptime
async def test_a_failing_loop_is_started_again_until_it_ends() -> None:
    runs, before = list[int](), failures("sync.commit")

    async def work() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise OSError("away")

    await tasks.supervise("sync.commit", work, restart=True)
    assert len(runs) == 4
    assert failures("sync.commit") == before + 3


async def test_an_error_that_may_not_be_survived_gets_out() -> None:
    before = failures("sync.house")

    async def work() -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await tasks.supervise("sync.house", work, restart=False)
    assert failures("sync.house") == before + 1


async def test_cancelling_passes_through() -> None:
    task = asyncio.ensure_future(
        tasks.supervise("endless", asyncio.Event().wait, restart=True)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_pauses_grow_and_stay_bounded() -> None:
    for count in range(1, 200):
        assert tasks.BACKOFF.first_s / 2 <= tasks.pause(count) <= tasks.BACKOFF.most_s


def test_periods_that_began_together_drift_apart() -> None:
    periods = [tasks.spread(2.0) for _ in range(50)]
    assert all(1.6 <= each <= 2.0 for each in periods)
    assert len(set(periods)) > 40


async def test_an_event_is_awaited_for_a_period_at_most() -> None:
    event = asyncio.Event()
    await asyncio.wait_for(tasks.awaited(event, 0.01), 2)
    event.set()
    await asyncio.wait_for(tasks.awaited(event, 600.0), 2)
