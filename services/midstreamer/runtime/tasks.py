"""Helpers for background tasks: supervision, back-off, and cancelling.

A service runs each of its background loops through `supervise` in its TaskGroup.  A loop that fails
is logged and counted.  Then, as the caller declared, the loop is started again after a growing
pause, or its error ends the whole group and so the process.  Cancellation is not caught, because
all tasks are stopped by it.
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
"""Seconds after which a loop counts as stable.  If a stable loop fails, it is started again after
the shortest pause."""

log = logs.get(__name__)


async def supervise(name: str, work: Callable[[], Awaitable[None]], *, restart: bool) -> None:
    """Run ``work()`` until it returns.

    An error is logged and counted under ``name``.  With ``restart``, ``work()`` is then called
    again after a pause; without it the error is raised.
    """
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
    """Return the seconds to wait after ``failures`` failures in a row, with random jitter."""
    return backoff.after(failures, dice=random.random())  # noqa: S311 - it hides nothing


def drop(task: asyncio.Future[Any]) -> None:
    """Cancel a task that is not needed any more, and ignore its result or error."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def ended(work: Collection[asyncio.Future[Any]]) -> None:
    """Cancel futures once and wait until all have ended, even if the caller is cancelled meanwhile.

    Each future is cancelled only once, so that its clean-up is not interrupted.  A cancellation of
    the caller is raised again at the end; raised earlier, it would leave clean-ups half done.
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
    """Return when the event is set, or after ``period_s`` seconds, shortened by `spread`."""
    try:
        async with asyncio.timeout(spread(period_s)):
            await event.wait()
    except TimeoutError:
        pass  # no error: the waiting time has passed, and the event is not set


def spread(period_s: float, *, share: float = 0.2) -> float:
    """Return a period shortened at random, by at most ``share`` of it.

    So processes that were started together do not renew, report and retry at the same moments.
    """
    return period_s * random.uniform(1.0 - share, 1.0)  # noqa: S311 - it hides nothing
