"""Work that runs beside a block and ends with it: what a process's `run` is stacked from.

    async with background("outbox", writer.run):
        ...            # the outbox runs
    # it has ended

Blocks end in the reverse order of their beginning, so a shutdown reads as the start backwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from midstreamer.runtime.tasks import supervise


@asynccontextmanager
async def background(name: str, work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run ``work()``, starting it again when it fails, until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(supervise(name, work, restart=True), name=name)
        try:
            yield
        finally:
            task.cancel()
