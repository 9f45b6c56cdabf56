"""A timer for sans-I/O cores: it calls a core at the time that the core has asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeups:
    """Calls ``tick`` of a sans-I/O core at the time that the core's ``next_wakeup_s`` returns.

    Call `changed` after each event that the core handled, because the time may have changed.
    """

    def __init__(
        self, next_wakeup_s: Callable[[], float | None], tick: Callable[[float], None]
    ) -> None:
        self._next_wakeup_s = next_wakeup_s
        self._tick = tick
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Read the wake-up time again, because the core has handled an event."""
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
