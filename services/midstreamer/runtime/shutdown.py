"""From a signal to a clean stop: the first begins it, the second ends the process.

A service begins to drain (`runtime.lifecycle`), and its `run` returns when that is done.  What does
not drain, a command or a service that is still starting, is cancelled instead and cleans up in its
own ``finally`` blocks.  A second signal means that the user will not wait any longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType

from midstreamer.telemetry import logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logs.get(__name__)


Begin = Callable[[signal.Signals], bool]
"""Begin to stop; False: there is nothing to drain, cancel it."""


def run(main: Awaitable[None], begin: Begin | None = None) -> signal.Signals | None:
    """Run ``main`` in a fresh event loop; return the signal that stopped it, None if it ended."""

    async def entry() -> signal.Signals | None:
        return await until_stopped(main, begin)

    return asyncio.run(entry())


async def until_stopped(main: Awaitable[None], begin: Begin | None = None) -> signal.Signals | None:
    """Await ``main``, stopping it at the first signal; must run in the main thread."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        log.info("process.stopping", signal=number.name)
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _end_now)
        if begin is None or not begin(number):
            task.cancel(f"stopped by {number.name}")

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
    return received[0] if received else None


async def finish(cleaning: Coroutine[object, object, None]) -> None:
    """Await a clean-up to its end, however often this task is cancelled; it must bound itself.

    A deadline that runs out beside a cancellation can leave a second one behind, and a bare
    ``asyncio.shield`` returns at the first: the process would end with its clean-up half done.
    """
    task = asyncio.ensure_future(cleaning)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _end_now(number: int, frame: FrameType | None) -> None:
    """Leave without cleaning up: whatever is durable already is, and nothing else was promised."""
    os._exit(128 + number)
