"""An event loop on virtual time, which jumps to the next timer as soon as all tasks sleep.

Tasks see the same times on any machine, however busy it is, so a test can make claims about timers
that it could not make on a real clock. The loop serves work inside one thread: events from other
threads or processes come at no defined virtual time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """A selector that advances the virtual clock instead of waiting."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("all tasks wait and no timer is set: the loop would wait forever")
        if not ready and timeout is not None:
            self.now_s += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with its own virtual clock; every new loop begins at the same time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.now_s


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on virtual time until it ends."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)
