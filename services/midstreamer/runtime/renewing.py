"""Keeps a source of credentials going while a process, or a client, uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from midstreamer.runtime.tasks import supervise
from midstreamer.security.credentials import CredentialSource, Renewed


@asynccontextmanager
async def kept(source: CredentialSource) -> AsyncIterator[None]:
    """Wait until a source has credentials, and have it renew them until the block ends.

    For a source without work of its own, as files are, it does nothing.
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
