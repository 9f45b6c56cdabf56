"""Keep the credentials of a process or client renewed while it uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from midstreamer.runtime.tasks import supervise
from midstreamer.security.credentials import CredentialSource, Renewed


@asynccontextmanager
async def kept(source: CredentialSource) -> AsyncIterator[None]:
    """Obtain credentials from ``source``, and renew them in the background while the block runs.

    Does nothing for a source that is not `Renewed`, such as certificate files.
    """
    if not isinstance(source, Renewed):
        yield
        return
    await source.obtain()
    task = asyncio.create_task(
        supervise("security.renewal", source.run, restart=True), name="security.renewal"
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
