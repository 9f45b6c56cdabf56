"""Race several attempts that start one after another and may overlap (RFC 8305, section 5).

The next attempt starts when the attempt before it has failed, or has had no answer for a while.  To
wait for a failure is not enough: over UDP, an address where nobody listens may send no error.
The first attempt that succeeds wins, and the others are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

STAGGER_S = 0.25
"""Default seconds without an answer after which the next attempt starts beside the running ones."""

T = TypeVar("T")


async def first(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    *,
    discard: Callable[[T], Awaitable[None]],
    stagger_s: float = STAGGER_S,
    is_final: Callable[[BaseException], bool] = lambda error: False,
) -> T:
    """Return the result of the first attempt that succeeds.

    If no attempt succeeds, raise the error of ``attempts[0]``.

    ``discard`` closes the result of an attempt that succeeded too late.  An error for which
    ``is_final`` is true is raised at once, because other attempts would end with it as well.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    tasks: list[asyncio.Future[T]] = []
    try:
        won = await _raced(attempts, tasks, stagger_s, is_final)
        await _ended([task for task in tasks if task is not won], discard)
    except BaseException:
        await _ended(tasks, discard)  # nobody gets the result of the winner, so discard it too
        raise
    return won.result()  # raises if no attempt succeeded


async def _raced(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    tasks: list[asyncio.Future[T]],
    stagger_s: float,
    is_final: Callable[[BaseException], bool],
) -> asyncio.Future[T]:
    """Start the attempts one after another; return the attempt that decides the race.

    `_decided` says which attempt decides the race.  If no attempt decides it, all have failed; then
    return the attempt that was started first.  Every started attempt is appended to ``tasks``.
    """
    waiting: set[asyncio.Future[T]] = set()
    for attempt in attempts:
        task: asyncio.Future[T] = asyncio.ensure_future(attempt())
        tasks.append(task)
        waiting.add(task)
        last = len(tasks) == len(attempts)
        while waiting:
            done, waiting = await asyncio.wait(
                waiting,
                timeout=None if last else stagger_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if (won := _decided(done, is_final)) is not None:
                return won
            if not last and (not done or task in done):
                break  # the newest attempt is slow or has failed: start the next
    return tasks[0]


async def _ended(
    tasks: Sequence[asyncio.Future[T]], discard: Callable[[T], Awaitable[None]]
) -> None:
    """Cancel the ``tasks``. Call ``discard`` with the result of each task that has one."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await discard(task.result())


def _decided(
    done: set[asyncio.Future[T]], is_final: Callable[[BaseException], bool]
) -> asyncio.Future[T] | None:
    """Return an attempt of ``done`` that decides the race; None if there is none.

    An attempt that has succeeded decides the race.  If no attempt of ``done`` has succeeded, an
    attempt with a final error decides it.
    """
    for each in done:
        if each.exception() is None:
            return each
    for each in done:
        if (error := each.exception()) is not None and is_final(error):
            return each
    return None
