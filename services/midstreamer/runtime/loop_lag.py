"""How late the event loop is: a timer that looks when it is woken.

Everything of a process shares one loop, so everything waits as long as this timer did.  The clock
is not the loop's, which some loops read once a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from midstreamer.telemetry import metrics

PERIOD_S = 0.25
"""Often enough that a stall of this length is always seen; a wake-up costs some microseconds."""


@contextlib.contextmanager
def watched(*, period_s: float = PERIOD_S) -> Iterator[None]:
    """Measure how late timers of the running loop are while inside, one each period."""
    watch = _Watch(period_s)
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """A timer that sets itself again."""

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
