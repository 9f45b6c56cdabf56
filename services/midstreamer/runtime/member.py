"""Belonging to the fleet: a lease at sync, renewed three times before it would run out.

The answer to every renewal is the list of everybody with a lease, so whoever renews also knows
the fleet.  A process that stops on purpose gives its lease back; one that dies loses it by
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import EVIDENCE_NEEDS, Capability
from midstreamer.protocol.frames import EVIDENCE_KEYS_BASE, Fleet, Member, Renew
from midstreamer.runtime.peer import Peer, Session
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
        drain: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """``drain`` is called when sync says that this member has been asked to drain."""
        self._session = session
        self._describe = describe
        self._joined = joined
        self._drain = drain
        self._left = self._given_back = False
        self._asking = asyncio.Lock()
        """Held while sync is asked, so that it is asked one thing after another."""
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
        """Renew until cancelled, or until it was given back."""
        while True:
            self._soon.clear()
            if not self._left:
                await self._renew()
            await asyncio.sleep(RENEW_LEAST_S)
            await awaited(self._soon, self._lease_s / RENEWALS_PER_LEASE)

    async def leave(self) -> None:
        """Give the lease back, if that can be done quickly; it is not renewed any more.

        Called again, it tries again when that failed.
        """
        self._left = True
        self._until_s = float("-inf")
        try:
            async with asyncio.timeout(LEAVE_S), self._asking:
                await self._give_back()
        except TimeoutError:
            log.info("lease.left_behind", detail=f"sync did not answer within {LEAVE_S:g} s")
        except MidstreamerError as error:
            log.info("lease.left_behind", detail=error.message)

    async def _give_back(self) -> None:
        peer = self._session.peer
        if self._given_back or peer is None:
            return
        await peer.ask(Renew(member=self._described(peer), leaving=True), budget_s=LEAVE_S)
        self._given_back = True

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        budget_s = self._lease_s / RENEWALS_PER_LEASE
        until_s = loop.time() + budget_s
        try:
            # What may be told depends on the sync that is asked, so the link comes first.
            peer = await self._session.live(budget_s)
            if self._left:
                return
            asked_s = loop.time()
            request = Renew(member=self._described(peer))
            async with self._asking:
                answer = await peer.ask(request, budget_s=max(0.0, until_s - asked_s))
        except MidstreamerError as error:
            log.warning("lease.not_renewed", code=error.code, detail=error.message)
            return
        if isinstance(answer, Fleet):
            self._lease_s = answer.lease_s
            if not self._left:
                self._until_s = asked_s + answer.lease_s
            for kind in Kind:
                count = sum(member.name.startswith(f"{kind}/") for member in answer.members)
                metrics.MEMBERS.labels(kind=kind).set(count)
            if answer.drain:
                self._drain("asked for over mTLS")
            self._joined(answer)

    def marks(self) -> bool:
        """Whether sync lets the lease say that this member drains."""
        peer = self._session.peer
        return peer is not None and _takes_evidence(peer)

    def _described(self, peer: Peer) -> Member:
        """As it describes itself, with no more evidence than this sync takes."""
        member = self._describe()
        known = {
            key: text
            for key, text in member.evidence.items()
            if EVIDENCE_NEEDS.get(key, Capability.EVIDENCE) in peer.capabilities
            or key in EVIDENCE_KEYS_BASE
        }
        return msgspec.structs.replace(member, evidence=known)


def _takes_evidence(peer: Peer) -> bool:
    return Capability.EVIDENCE in peer.capabilities
