"""The links of one client to coordinators.

One session for each configured address is kept open in the background.  A coordinator also returns
the addresses of the other coordinators of its fleet.  The client keeps links to a few of those too,
so that it continues to work when the configured coordinators are replaced.  Only addresses from an
authenticated coordinator are used, and at most `LINKS_MAX` of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from midstreamer.domain.errors import BadInput, MidstreamerError, Refused
from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import frames
from midstreamer.runtime.peer import LINK_AGE_S, Peer, Session
from midstreamer.runtime.peer_server import SILENT
from midstreamer.runtime.tasks import drop
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link, OnLink, Server, TrustReport

LINKS_MAX = 3
"""Maximum number of links to addresses that the client has learned from a coordinator. Links to
configured addresses do not count."""
ADDRESS_CHARACTERS_MAX = 300
"""Maximum number of characters of an address that a coordinator returns. The client ignores longer
addresses, because the log of each failed attempt contains the address. A DNS name has at most 253
characters."""
LEARN_S = 5.0
"""Timeout in seconds of the request for the addresses of the other coordinators."""

log = logs.get(__name__)

ResultT = TypeVar("ResultT")


@dataclass(eq=False)
class _Kept:
    """One address, and the session that keeps a link to the coordinator at that address open."""

    address: str
    session: Session
    keeper: asyncio.Task[None]
    expected: str = ""
    """``<kind>/<id>`` of the coordinator expected at the address; empty for a configured address,
    where any coordinator is accepted."""

    @property
    def serves(self) -> bool:
        """Whether a coordinator is connected that accepts requests and that ``expected`` allows."""
        peer = self.session.peer
        return peer is not None and self.expected in ("", peer.identity.name)

    @property
    def is_silent(self) -> bool:
        """Whether a coordinator is connected, but its answer to a keep-alive is overdue."""
        peer = self.session.peer
        return peer is not None and peer.silence > SILENT

    @property
    def is_vain(self) -> bool:
        """Whether the address is of no use: it has no link, or the link leads to another
        coordinator than expected."""
        # A session has no peer while its coordinator drains.  The link is then still open, and
        # requests on it are still answered.
        if self.session.peer is None:
            return not self.session.linked
        return not self.serves


class Links:
    """The sessions of one client to coordinators.  Call `open` before use, and `close` after."""

    def __init__(
        self,
        carrier: Callable[[], Carrier],
        addresses: Sequence[str],
        *,
        link_age_s: float = LINK_AGE_S,
    ) -> None:
        self.configured = tuple(addresses)
        self._carrier = carrier
        self._made: Door | None = None
        self._kept: dict[str, _Kept] = {}
        self._link_age_s = link_age_s
        self._preferred = ""

    def open(self) -> None:
        """Start to dial the configured addresses, in random order, so that the clients of a fleet
        are spread over its coordinators."""
        for address in random.sample(self.configured, len(self.configured)):
            if address not in self._kept:
                self._keep(address)

    async def close(self) -> None:
        """Close every link; safe to call twice."""
        kept, self._kept = self._kept, {}
        keepers = [each.keeper for each in kept.values()]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        """Whether the links are open: after `open` and before `close`."""
        return bool(self._kept)

    @property
    def _door(self) -> Door:
        """The carrier of all links.  The first link creates it.  It cannot be created together with
        the client, because the credentials may not exist yet."""
        if self._made is None:
            self._made = Door(self._carrier())
        return self._made

    def ready(self) -> list[str]:
        """Return the addresses of the coordinators to which a request can be sent now, best first.

        The coordinator that answered last is first.  Coordinators that have been silent for too
        long are last, because their connection may be broken.
        """
        live = {address: kept for address, kept in self._kept.items() if kept.serves}
        return sorted(live, key=lambda each: (live[each].is_silent, each != self._preferred))

    async def ask(self, address: str, request: frames.Request, budget_s: float) -> frames.Answer:
        """Send a request to the coordinator at an address and return its answer.

        With an empty or unknown address, use the first coordinator that can be reached.
        ``budget_s`` is the time for the connection and the answer together.
        """
        self.raise_if_broken()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + budget_s
        kept = self._kept.get(address) or self._kept[await self.reached(budget_s)]
        answer = await kept.session.ask(request, budget_s=max(0.0, until_s - loop.time()))
        self._preferred = kept.address
        return answer

    async def reached(self, budget_s: float, *, once: bool = False) -> str:
        """Wait until one of the addresses has an open link, and return that address.

        Raise NobodyThere when every address has failed.  An address has failed when all its
        coordinators have refused this client, or when it has no link after ``budget_s`` seconds.
        With ``once``, it has also failed when its first attempt to connect fails.  Raise BadInput
        when `open` was not called.
        """
        if not self._kept:
            raise BadInput("the client is not open: use `async with AsyncClient.connect(...)`")
        attempts = [
            asyncio.ensure_future(self._reached(kept, budget_s, once=once))
            for kept in self._kept.values()
        ]
        errors: list[MidstreamerError] = []
        try:
            for attempt in asyncio.as_completed(attempts):
                try:
                    return await attempt
                except MidstreamerError as error:
                    errors.append(error)
        finally:
            for task in attempts:
                drop(task)
        self.raise_if_broken()
        raise NobodyThere(errors)

    async def _reached(self, kept: _Kept, budget_s: float, *, once: bool) -> str:
        reached = kept.session.reached(budget_s) if once else kept.session.live(budget_s)
        await self._door.unless_refused(kept.address, reached)
        return kept.address

    def raise_if_broken(self) -> None:
        """Raise the error of a failed session if no session can work any more.

        This is so when the background tasks of all sessions have ended.  If several of these tasks
        failed, the error of the task with the first address in the list of addresses is raised.
        """
        keepers = [kept.keeper for kept in self._kept.values()]
        if keepers and all(keeper.done() for keeper in keepers):
            for keeper in keepers:
                if not keeper.cancelled() and (broken := keeper.exception()):
                    raise broken

    # --- the sessions ---

    def _keep(self, address: str, expected: str = "") -> None:
        session = Session(
            self._door,
            address,
            expect=Kind.COORDINATOR,
            opened=self._learn,
            link_age_s=self._link_age_s,
        )
        keeper = asyncio.create_task(session.run(), name=f"session.{address}")
        keeper.add_done_callback(_note_broken)
        self._kept[address] = _Kept(address, session, keeper, expected)

    async def _learn(self, peer: Peer) -> None:
        """Ask a coordinator for the addresses of the other coordinators; called once when a link
        opens."""
        try:
            answer = await peer.ask(frames.Lookup(experience_ids=()), budget_s=LEARN_S)
        except MidstreamerError as error:
            log.debug("coordinators.not_learned", detail=error.message)
            return
        if isinstance(answer, frames.Experiences):
            self._learned(answer.coordinators)

    def _learned(self, places: Sequence[frames.Place]) -> None:
        if not self._kept or not places:
            return
        offered = {
            place.address: place.name
            for place in places
            if len(place.address) <= ADDRESS_CHARACTERS_MAX
        }
        for address, kept in list(self._kept.items()):
            if kept.expected and offered.get(address) != kept.expected and kept.is_vain:
                kept.keeper.cancel()
                # Forget the address with the old name. If another coordinator has the address now,
                # the code below may add the address again, with the name of that coordinator.
                del self._kept[address]
        served = {
            kept.session.peer.identity.name for kept in self._kept.values() if kept.session.peer
        }
        room = LINKS_MAX - sum(bool(kept.expected) for kept in self._kept.values())
        fresh = [
            (address, name)
            for address, name in offered.items()
            if address not in self._kept and name not in served
        ]
        for address, name in random.sample(fresh, max(0, min(room, len(fresh)))):
            log.debug("coordinator.learned", address=address, coordinator=name)
            self._keep(address, name)


class NobodyThere(Exception):
    """No coordinator was reached; ``errors`` has the error of each address."""

    def __init__(self, errors: Sequence[MidstreamerError]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)


def _note_broken(keeper: asyncio.Task[None]) -> None:
    if not keeper.cancelled() and (error := keeper.exception()) is not None:
        log.debug("session.broken", detail=str(error))


class Door:
    """A carrier that also remembers which coordinators refused this client.

    Once all coordinators behind an address have refused, it is useless to wait for a link there:
    `unless_refused` then raises the refusal at once.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._refusals: dict[str, asyncio.Future[Refused]] = {}
        """For each address, a future that gets a refusal once all servers to which the address
        resolves have refused this client."""
        self._places: dict[str, frozenset[str]] = {}
        """For each address, the addresses to which the carrier resolved it last."""
        self._refused: dict[str, Refused] = {}
        """By resolved address, the last refusal of the server there.  It is removed when the
        server accepts a link."""

    @property
    def me(self) -> Identity:
        """The identity this process presents."""
        return self._carrier.me

    @property
    def incarnation(self) -> str:
        """Incarnation of this process, which every handshake sends."""
        return self._carrier.incarnation

    @property
    def credentials(self) -> object:
        """Return the credentials of the carrier."""
        return self._carrier.credentials

    async def places(self, address: str) -> Sequence[str]:
        """Resolve an address, and return one address for each server behind it.  `dial` needs the
        result later, so it is kept."""
        found = await self._carrier.places(address)
        self._places[address] = frozenset(found)
        return found

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link to a resolved address.  If the server there refuses, remember its refusal
        until it accepts a link."""
        named = [each for each, places in self._places.items() if address in places] or [address]
        refusals = [(each, self._refusal(each)) for each in named]
        try:
            link = await self._carrier.dial(address, expect=expect)
        except Refused as error:
            self._refused[address] = error
            for each, refusal in refusals:
                others = self._places.get(each, frozenset())
                if others <= self._refused.keys() and not refusal.done():
                    refusal.set_result(error)
            raise
        self._refused.pop(address, None)
        for each in named:
            self._refusals.pop(each, None)
        return link

    async def serve(self, address: str, on_link: OnLink) -> Server:
        """Listen with the carrier.  Clients never listen, but a `Carrier` must have this method."""
        return await self._carrier.serve(address, on_link)

    def grant(self, peer: Identity) -> Grant:
        """Return the grant that the wrapped carrier gives to ``peer``."""
        return self._carrier.grant(peer)

    def trust_report(self) -> TrustReport:
        """Return the trust report of the wrapped carrier."""
        return self._carrier.trust_report()

    def warnings(self) -> list[str]:
        """Return the warnings of the wrapped carrier."""
        return self._carrier.warnings()

    async def unless_refused(self, address: str, asking: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Await ``asking``, which waits for a link to the address, and return its result.  Raise
        Refused as soon as all servers behind the address have refused this client."""
        task, refusal = asyncio.ensure_future(asking), self._refusal(address)
        either: set[asyncio.Future[Any]] = {task, refusal}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise refusal.result()
        finally:
            drop(task)

    def _refusal(self, address: str) -> asyncio.Future[Refused]:
        if address not in self._refusals:
            self._refusals[address] = asyncio.get_running_loop().create_future()
        return self._refusals[address]
