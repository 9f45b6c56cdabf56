"""From a signal to a clean stop: the first cancels the main task, the second ends the process.

Services clean up in their own ``finally`` blocks, in the order that their `run` reads: stop
accepting, drain, flush the outbox, close.  Here is only what turns SIGINT and SIGTERM into that
one cancellation, and what a second signal means: the user will not wait any longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Coroutine
from types import FrameType

from midstreamer.telemetry import logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logs.get(__name__)


def run(main: Awaitable[None]) -> signal.Signals | None:
    """Run ``main`` in a fresh event loop; return the signal that stopped it, None if it ended."""

    async def entry() -> signal.Signals | None:
        return await until_stopped(main)

    return asyncio.run(entry())


async def until_stopped(main: Awaitable[None]) -> signal.Signals | None:
    """Await ``main``, cancelling it at the first signal; must run in the main thread."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        log.info("process.stopping", signal=number.name)
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _end_now)
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
