"""Membership of the fleet: a process holds a lease at sync and renews it.

A lease is renewed three times before it would expire.  The answer to each renewal lists all
members that hold a lease, so a process that renews also knows the fleet.  A process that stops on
purpose gives its lease back; the lease of a process that dies expires.
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
"""Duration of a lease in seconds that is assumed until sync has named the real one."""
RENEW_LEAST_S = 0.1
"""Least seconds between two renewals, even when the member's description changes more often.
Each change of the shards that a member holds goes through the change feed to all followers."""
LEAVE_S = 1.0
"""Maximum seconds that giving the lease back may take; after that the lease is left to expire."""

log = logs.get(__name__)


class Membership:
    """The lease of this process at sync: renewed while `run` runs, given back by `leave`."""

    def __init__(
        self,
        session: Session,
        describe: Callable[[], Member],
        joined: Callable[[Fleet], None],
        drain: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """Set up the lease; nothing is sent before `run`.

        ``describe`` returns this member's description for each renewal.  ``joined`` is called with
        the members of the fleet after each renewal.  ``drain`` is called with a reason when sync
        says that this member has been asked to drain.
        """
        self._session = session
        self._describe = describe
        self._joined = joined
        self._drain = drain
        self._left = self._given_back = False
        self._asking = asyncio.Lock()
        """Held while a request to sync is under way, so that renewals do not overlap."""
        self._lease_s = LEASE_S_UNKNOWN
        self._until_s = float("-inf")
        self._soon = asyncio.Event()

    def held(self) -> bool:
        """Return whether the lease has been granted and has not expired."""
        return asyncio.get_running_loop().time() < self._until_s

    def renew_soon(self) -> None:
        """Renew the lease soon, because the description of this member has changed."""
        self._soon.set()

    async def run(self) -> None:
        """Renew the lease until cancelled; after `leave` no renewal is sent."""
        while True:
            self._soon.clear()
            if not self._left:
                await self._renew()
            await asyncio.sleep(RENEW_LEAST_S)
            await awaited(self._soon, self._lease_s / RENEWALS_PER_LEASE)

    async def leave(self) -> None:
        """Stop renewing the lease and give it back to sync, within at most `LEAVE_S`.

        A failure is logged and not raised.  A later call tries again if the lease was not given
        back.
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
            # Get the link first: which evidence may be sent depends on the capabilities of the sync
            # that it leads to.
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
        """Return whether the connected sync understands the mark "draining" in a lease.

        The mark is part of the lease's evidence.  An older sync does not understand the mark, so a
        draining agent gives its lease back to an older sync.  False if no sync is connected.
        """
        peer = self._session.peer
        return peer is not None and _takes_evidence(peer)

    def _described(self, peer: Peer) -> Member:
        """Return this member's description, to be sent to the sync ``peer``.

        Entries of the evidence for which this sync lacks the capability are left out, because it
        would refuse them.
        """
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
