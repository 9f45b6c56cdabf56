"""A timer for cores that do no I/O: it calls a core at the time the core asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeups:
    """Calls ``tick`` with the loop's time whenever the time of ``next_wakeup_s`` is reached.

    Call `changed` after each event that the core handled, because its next wake-up may have moved.
    """

    def __init__(
        self, next_wakeup_s: Callable[[], float | None], tick: Callable[[float], None]
    ) -> None:
        self._next_wakeup_s = next_wakeup_s
        self._tick = tick
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Note that the core handled an event, so that its next wake-up is read again."""
        self._changed.set()

    async def run(self) -> None:
        """Call ``tick`` at each wake-up time, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._next_wakeup_s()):
                    await self._changed.wait()
            except TimeoutError:
                self._tick(loop.time())
