"""A core's tick is called at the times that the core asks for, and at no other time."""

import asyncio

import pytest

from midstreamer.runtime.core_timer import Wakeups

pytestmark = pytest.mark.looptime


class _Core:
    """A core that asks for a wake-up at each of the given times."""

    def __init__(self, *times_s: float) -> None:
        self.times_s = sorted(times_s)
        self.woken_s: list[float] = []

    def next_wakeup_s(self) -> float | None:
        return self.times_s[0] if self.times_s else None

    def tick(self, now_s: float) -> None:
        self.woken_s.append(now_s)
        self.times_s.pop(0)


async def test_a_core_is_woken_up_at_each_of_its_times() -> None:
    core = _Core(1.0, 5.0)
    running = asyncio.create_task(Wakeups(core.next_wakeup_s, core.tick).run())
    await asyncio.sleep(60)
    assert core.woken_s == pytest.approx([1.0, 5.0])
    running.cancel()


async def test_an_earlier_wakeup_is_kept_once_the_change_is_announced() -> None:
    core = _Core(9.0)
    wakeups = Wakeups(core.next_wakeup_s, core.tick)
    running = asyncio.create_task(wakeups.run())
    await asyncio.sleep(1)
    core.times_s.insert(0, 2.0)
    wakeups.changed()
    await asyncio.sleep(2)
    assert core.woken_s == pytest.approx([2.0])
    running.cancel()
