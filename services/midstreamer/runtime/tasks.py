"""Background work with a declared end: nothing runs that nobody watches.

`supervise` is what a service puts into its TaskGroup for each loop of its own.  A loop that
fails is logged and counted; then either it is started again after a growing pause, or its error
takes the whole group, and so the process, down - by declaration, never by accident.
Cancelling passes through untouched: that is how everything stops.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from midstreamer.runtime.backoff import Backoff
from midstreamer.telemetry import logs, metrics

BACKOFF = Backoff(first_s=0.05, most_s=5.0)
STEADY_S = 30.0
"""A loop that ran this long before it failed begins again with the least pause."""

log = logs.get(__name__)


async def supervise(name: str, work: Callable[[], Awaitable[None]], *, restart: bool) -> None:
    """Run ``work()`` until it returns; on an error start it again, or let the error out."""
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        began_s = loop.time()
        try:
            await work()
        except Exception as error:
            metrics.TASK_FAILURES.labels(task=name).inc()
            if not restart:
                log.exception("task.failed", task=name)
                raise
            failures = 1 if loop.time() - began_s > STEADY_S else failures + 1
            pause_s = pause(failures)
            log.warning("task.restarted", task=name, error=str(error), pause_s=round(pause_s, 3))
            await asyncio.sleep(pause_s)
        else:
            return


def pause(failures: int, *, backoff: Backoff = BACKOFF) -> float:
    """Seconds to wait after this many failures in a row, diced."""
    return backoff.after(failures, dice=random.random())  # noqa: S311 - it hides nothing


def drop(task: asyncio.Future[Any]) -> None:
    """Cancel what nobody waits for any more, and take no notice of how it ends."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def ended(work: Collection[asyncio.Future[Any]]) -> None:
    """Cancel work and wait until all of it has ended, however often this is cancelled meanwhile.

    Else a second cancel would leave half closed what the first one began to close.  Each may be
    cancelled once only, so that it can close in peace; a cancel of this comes out at the end.
    """
    for future in work:
        future.cancel()
    asked: asyncio.CancelledError | None = None
    while not all(future.done() for future in work):
        try:
            await asyncio.wait(work)
        except asyncio.CancelledError as error:
            asked = error
    if asked is not None:
        raise asked


async def awaited(event: asyncio.Event, period_s: float) -> None:
    """Return when the event is set, or when its period, spread, is over without it."""
    try:
        async with asyncio.timeout(spread(period_s)):
            await event.wait()
    except TimeoutError:
        pass  # as good a reason


def spread(period_s: float, *, share: float = 0.2) -> float:
    """A period shortened by up to ``share`` of it, so that what began together does not stay so.

    A fleet that was started at once would else renew, report and retry at once for ever.
    """
    return period_s * random.uniform(1.0 - share, 1.0)  # noqa: S311 - it hides nothing
