"""Hears of commits by others: LISTEN on one connection, which also reads the position.

A commit that adds to the feed notifies `CHANNEL` (`advance_head` in queries/writing.sql).  A
version before this one does not notify, and behind PgBouncer in transaction mode no notification
arrives.  So the position is read every period as well, on the same connection; that also finds out
that the connection is lost.  Whether notifications arrive is tried once for each connection, with
one that is sent on another.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from midstreamer.store import queries
from midstreamer.store.ports import Heard
from midstreamer.telemetry import logs

CHANNEL = "midstreamer_feed"
PROBE_S = 5.0
"""A notification that did not arrive within this time never will."""

_SQL = queries.load()

log = logs.get(__name__)


class Ear:
    """One listening connection."""

    _warned = False
    """A process that is behind PgBouncer stays there: it is said once."""

    def __init__(self, connection: Any, heard: Heard, *, ours: Callable[[int], bool]) -> None:
        """``ours``: whether a PostgreSQL process serves our own transactions."""
        self._connection = connection
        self._heard = heard
        self._ours = ours
        self._word = secrets.token_hex(8)
        self._probed = asyncio.Event()

    async def listen(self, *, period_s: float, ring: Callable[[str], Awaitable[None]]) -> None:
        """Tell positions until the connection is lost, which raises what asyncpg raises."""
        await self._connection.add_listener(CHANNEL, self._take)
        probing = asyncio.get_running_loop().create_task(self._probe(ring))
        try:
            while True:
                self._heard(int(await self._connection.fetchval(_SQL["position"])))
                await asyncio.sleep(period_s)
        finally:
            probing.cancel()
            await asyncio.wait({probing})
            if not probing.cancelled():
                probing.exception()  # the pool failed as well; the loop above says so

    def _take(self, _connection: Any, pid: int, _channel: str, payload: str) -> None:
        if payload == self._word:
            self._probed.set()
        elif payload.isdecimal() and not self._ours(pid):
            self._heard(int(payload))

    async def _probe(self, ring: Callable[[str], Awaitable[None]]) -> None:
        await ring(self._word)
        try:
            async with asyncio.timeout(PROBE_S):
                await self._probed.wait()
        except TimeoutError:
            if not Ear._warned:
                Ear._warned = True
                log.warning(
                    "feed.not_notified",
                    detail="notifications of PostgreSQL do not arrive, as behind PgBouncer in"
                    " transaction mode: commits of other syncs are found by polling",
                )
