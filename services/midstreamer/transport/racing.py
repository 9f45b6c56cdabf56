"""Several ways to one thing, tried in order and not one after another (RFC 8305, section 5).

The next attempt begins when the one before failed, or has taken a while without an answer: over
UDP a dead address says nothing.  The first that succeeds is taken, and the others are ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

STAGGER_S = 0.25
"""After so long without an answer the next is tried beside it."""

T = TypeVar("T")


async def first(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    *,
    discard: Callable[[T], Awaitable[None]],
    stagger_s: float = STAGGER_S,
    is_final: Callable[[BaseException], bool] = lambda error: False,
) -> T:
    """The result of the first attempt that succeeds; when none does, the first's error.

    ``discard`` ends a result that came although another had been taken.  An error that
    ``is_final`` is raised at once: no other way will lead to another answer.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    tasks: list[asyncio.Future[T]] = []
    try:
        won = await _raced(attempts, tasks, stagger_s, is_final)
        await _ended([task for task in tasks if task is not won], discard)
    except BaseException:
        await _ended(tasks, discard)  # nobody takes the one that won, either
        raise
    return won.result()  # raises when none succeeded


async def _raced(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    tasks: list[asyncio.Future[T]],
    stagger_s: float,
    is_final: Callable[[BaseException], bool],
) -> asyncio.Future[T]:
    """The attempt that ends the race, else the first; all that were begun are in ``tasks``."""
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
                break  # it is slow or has failed: the next, beside those that still run
    return tasks[0]


async def _ended(
    tasks: Sequence[asyncio.Future[T]], discard: Callable[[T], Awaitable[None]]
) -> None:
    """End these attempts, and the result of each that has one."""
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
    """The attempt that ends the race: one that succeeded, else one whose error is final."""
    for each in done:
        if each.exception() is None:
            return each
    for each in done:
        if (error := each.exception()) is not None and is_final(error):
            return each
    return None
