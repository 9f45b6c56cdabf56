"""Stop a process on SIGINT or SIGTERM: the first signal stops it cleanly, the second at once.

At the first signal a service begins to drain (`runtime.lifecycle`), and its ``run`` returns when
that is done.  A command, or a service that is still starting, cannot drain; it is cancelled and
cleans up in its own ``finally`` blocks.  A second signal means that the user does not want to wait:
the process exits without cleaning up.
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
"""Function that begins to drain after a signal; it returns False if there is nothing to drain."""


def run(main: Awaitable[None], begin: Begin | None = None) -> signal.Signals | None:
    """Run ``main`` in a new event loop; return the signal that stopped it, or None.

    See `until_stopped`.
    """

    async def entry() -> signal.Signals | None:
        return await until_stopped(main, begin)

    return asyncio.run(entry())


async def until_stopped(main: Awaitable[None], begin: Begin | None = None) -> signal.Signals | None:
    """Await ``main``, stop it at the first signal, and return that signal, or None.

    The first signal calls ``begin``; without ``begin``, or if it returns False, ``main`` is
    cancelled.  Must run in the main thread, because only that can set signal handlers.
    """
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
    """Await a clean-up until it is done, however often this task is cancelled meanwhile.

    The cancellation is raised again after the clean-up.  ``cleaning`` must have its own timeout.
    A bare ``asyncio.shield`` would not do: it returns at the first cancellation, with the clean-up
    half done, and a task can be cancelled twice when a timeout expires during a cancellation.
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
    """Exit at once without cleaning up.

    No acknowledged data is lost: it is durable, or in a coordinator's spool.
    """
    os._exit(128 + number)
