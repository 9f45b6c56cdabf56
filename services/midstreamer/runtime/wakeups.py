"""The shell of a core that wants to be woken up: one loop for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeups:
    """Calls ``tick`` with the time, whenever the core's ``next_wakeup_s`` has come.

    Say `changed` after each event: the next wake-up may have moved.
    """

    def __init__(
        self, next_wakeup_s: Callable[[], float | None], tick: Callable[[float], None]
    ) -> None:
        self._next_wakeup_s = next_wakeup_s
        self._tick = tick
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """The core took an event in."""
        self._changed.set()

    async def run(self) -> None:
        """Wake the core until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._next_wakeup_s()):
                    await self._changed.wait()
            except TimeoutError:
                self._tick(loop.time())
