"""Measure how late the event loop runs its timers.

A timer compares the time at which it is called with the time for which it was set.  All work of a
process shares one event loop, so everything else waits as long as this timer did.  The time is read
from `time.monotonic` and not from the loop, because some event loops read the clock only once per
iteration.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from midstreamer.telemetry import metrics

PERIOD_S = 0.25
"""Seconds between two measurements. Every stall of the loop that lasts at least this long is seen;
one measurement costs a few microseconds."""


@contextlib.contextmanager
def watched(*, period_s: float = PERIOD_S) -> Iterator[None]:
    """Measure the lag of the running event loop once per period while the block runs.

    Each measurement is observed in the metric `metrics.LOOP_LAG_S`.
    """
    watch = _Watch(period_s)
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """A repeating timer that records how late it was called."""

    def __init__(self, period_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._period_s = period_s
        self._wait()

    def stop(self) -> None:
        self._handle.cancel()

    def _wait(self) -> None:
        self._due_s = time.monotonic() + self._period_s
        self._handle = self._loop.call_later(self._period_s, self._look)

    def _look(self) -> None:
        metrics.LOOP_LAG_S.observe(max(0.0, time.monotonic() - self._due_s))
        self._wait()
