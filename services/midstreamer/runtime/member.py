"""Belonging to the fleet: a lease at sync, renewed three times before it would run out.

The answer to every renewal is the list of everybody with a lease, so whoever renews also knows
the fleet.  A process that stops on purpose gives its lease back; one that dies loses it by
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Fleet, Member, Renew
from midstreamer.runtime.peer import Session
from midstreamer.runtime.tasks import awaited
from midstreamer.telemetry import logs, metrics

RENEWALS_PER_LEASE = 3
LEASE_S_UNKNOWN = 3.0
"""Assumed until sync has told."""
RENEW_LEAST_S = 0.1
"""Two renewals are this far apart, however often what they say changes: each change of holdings
goes through the feed to everybody."""
LEAVE_S = 1.0
"""Longest that giving the lease back may take; it runs out by itself otherwise."""

log = logs.get(__name__)


class Membership:
    """One process's lease."""

    def __init__(
        self,
        session: Session,
        describe: Callable[[], Member],
        joined: Callable[[Fleet], None],
    ) -> None:
        self._session = session
        self._describe = describe
        self._joined = joined
        self._lease_s = LEASE_S_UNKNOWN
        self._until_s = float("-inf")
        self._soon = asyncio.Event()

    def held(self) -> bool:
        """Whether the lease has been granted and has not run out."""
        return asyncio.get_running_loop().time() < self._until_s

    def renew_soon(self) -> None:
        """What the lease says of this process has changed: renew now rather than later."""
        self._soon.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._soon.clear()
            await self._renew()
            await asyncio.sleep(RENEW_LEAST_S)
            await awaited(self._soon, self._lease_s / RENEWALS_PER_LEASE)

    async def leave(self) -> None:
        """Give the lease back, if that can be done quickly."""
        self._until_s = float("-inf")
        if self._session.peer is None:
            return
        request = Renew(member=self._describe(), leaving=True)
        try:
            await self._session.ask(request, budget_s=LEAVE_S)
        except MidstreamerError as error:
            log.info("lease.left_behind", detail=error.message)

    async def _renew(self) -> None:
        asked_s = asyncio.get_running_loop().time()
        try:
            answer = await self._session.ask(
                Renew(member=self._describe()), budget_s=self._lease_s / RENEWALS_PER_LEASE
            )
        except MidstreamerError as error:
            log.warning("lease.not_renewed", code=error.code, detail=error.message)
            return
        if isinstance(answer, Fleet):
            self._lease_s = answer.lease_s
            self._until_s = asked_s + answer.lease_s
            for kind in Kind:
                count = sum(member.name.startswith(f"{kind}/") for member in answer.members)
                metrics.MEMBERS.labels(kind=kind).set(count)
            self._joined(answer)
