"""Learns of the commits of other syncs: LISTEN on one connection, which also polls the position.

A commit that adds to the change feed notifies `CHANNEL` (the query ``advance_head`` in
queries/writing.sql).  But an older version sends no notification, and PgBouncer in transaction mode
delivers none.  So the position is also read once per period on the same connection; this read also
detects a lost connection.  On each new connection a test notification, sent on another connection,
shows whether notifications arrive.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from midstreamer.store import queries
from midstreamer.store.store_interface import Heard
from midstreamer.telemetry import logs

CHANNEL = "midstreamer_feed"
"""PostgreSQL channel on which a commit notifies the new position of the feed."""
PROBE_S = 5.0
"""Seconds to wait for the test notification on a new connection. If it does not arrive in this
time, it is assumed that no notifications arrive on this connection."""

_SQL = queries.load()

log = logs.get(__name__)


class Ear:
    """The listener on one connection: reports committed positions of the feed."""

    _warned = False
    """Whether missing notifications were logged; the process logs them only once."""

    def __init__(self, connection: Any, heard: Heard, *, ours: Callable[[int], bool]) -> None:
        """Call ``heard`` with committed positions of the feed.

        ``ours`` gets the id of the PostgreSQL backend that sent a notification.  It returns True if
        that backend executes the caller's own commits.  Such a notification is ignored, because the
        caller already knows its own commits.
        """
        self._connection = connection
        self._heard = heard
        self._ours = ours
        self._word = secrets.token_hex(8)
        self._probed = asyncio.Event()

    async def listen(self, *, period_s: float, ring: Callable[[str], Awaitable[None]]) -> None:
        """Report positions until the connection is lost; then asyncpg's error is raised.

        ``period_s`` is the time in seconds between two reads of the position.  ``ring`` sends a
        notification with the given text on another connection.
        """
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
                probing.exception()  # asyncio logs the exception of a task if nobody reads it

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
                    detail="notifications of PostgreSQL do not arrive, for example because of"
                    " PgBouncer in transaction mode: commits of other syncs are found by polling",
                )
