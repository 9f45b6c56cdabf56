"""The links of one client to coordinators: to those it was told of, and to a few more.

One session for each address is kept alive in the background.  A fleet tells where its other
coordinators serve; a client keeps links to a few of these as well, so that it goes on when the ones
that it was configured with are replaced.  Only a coordinator that was judged is believed, and at
most `LINKS_MAX` addresses are dialled besides the configured ones.
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
from midstreamer.runtime.listener import SILENT
from midstreamer.runtime.peer import LINK_AGE_S, Peer, Session
from midstreamer.runtime.tasks import drop
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link, OnLink, Server, TrustReport

LINKS_MAX = 3
"""Links to coordinators that were learned of, besides the configured ones."""
ADDRESS_CHARACTERS_MAX = 300
"""Of an address that is learned: a name has at most 253, and it is logged with each failure."""
LEARN_S = 5.0

log = logs.get(__name__)

ResultT = TypeVar("ResultT")


@dataclass(eq=False)
class _Kept:
    """One address, and the session that keeps a link to it."""

    address: str
    session: Session
    keeper: asyncio.Task[None]
    expected: str = ""
    """``<kind>/<id>`` that was told to serve there; empty for configured addresses."""

    @property
    def serves(self) -> bool:
        """Whether it takes requests now, and is who was told to serve there."""
        peer = self.session.peer
        return peer is not None and self.expected in ("", peer.identity.name)

    @property
    def is_silent(self) -> bool:
        """Whether its peer should have been heard by now, and was not."""
        peer = self.session.peer
        return peer is not None and peer.silence > SILENT

    @property
    def is_vain(self) -> bool:
        """Whether nobody is there, or somebody else than was told."""
        if self.session.peer is None:  # one that drains may still answer
            return not self.session.linked
        return not self.serves


class Links:
    """Sessions to coordinators; `open` before use, `close` after."""

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
        """Begin to dial, in a random order, so that clients spread over coordinators."""
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
        """Whether `open` was called, and `close` not yet."""
        return bool(self._kept)

    @property
    def _door(self) -> Door:
        """Made when the first link is: its carrier may need credentials that come late."""
        if self._made is None:
            self._made = Door(self._carrier())
        return self._made

    def ready(self) -> list[str]:
        """Where a request can go at once, the coordinator that answered last first.

        One that has fallen silent comes last: its link may lead nowhere, and another one may have
        moved to a carrier that does.
        """
        live = {address: kept for address, kept in self._kept.items() if kept.serves}
        return sorted(live, key=lambda each: (live[each].is_silent, each != self._preferred))

    async def ask(self, address: str, request: frames.Request, budget_s: float) -> frames.Answer:
        """Ask the coordinator at an address; with none, whichever is reached first."""
        self.raise_if_broken()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + budget_s
        kept = self._kept.get(address) or self._kept[await self.reached(budget_s)]
        answer = await kept.session.ask(request, budget_s=max(0.0, until_s - loop.time()))
        self._preferred = kept.address
        return answer

    async def reached(self, budget_s: float, *, once: bool = False) -> str:
        """The first address with a live link; raises when all refuse, or time runs out.

        ``once``: an address counts as failed with the first attempt that does.
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
        """Raise the error that ended the keeper of a session, when all have ended."""
        keepers = [kept.keeper for kept in self._kept.values()]
        if keepers and all(keeper.done() for keeper in keepers):
            for keeper in keepers:
                if not keeper.cancelled() and (broken := keeper.exception()):
                    raise broken

    # --- what is kept ---

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
        """Ask each coordinator once, when its link opens, where the others serve."""
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
        told = {
            place.address: place.name
            for place in places
            if len(place.address) <= ADDRESS_CHARACTERS_MAX
        }
        for address, kept in list(self._kept.items()):
            if kept.expected and told.get(address) != kept.expected and kept.is_vain:
                kept.keeper.cancel()
                del self._kept[address]  # whoever serves there now may be kept below
        served = {
            kept.session.peer.identity.name for kept in self._kept.values() if kept.session.peer
        }
        room = LINKS_MAX - sum(bool(kept.expected) for kept in self._kept.values())
        fresh = [
            (address, name)
            for address, name in told.items()
            if address not in self._kept and name not in served
        ]
        for address, name in random.sample(fresh, max(0, min(room, len(fresh)))):
            log.debug("coordinator.learned", address=address, coordinator=name)
            self._keep(address, name)


class NobodyThere(Exception):
    """No address was reached; ``errors`` has what each said."""

    def __init__(self, errors: Sequence[MidstreamerError]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)


def _note_broken(keeper: asyncio.Task[None]) -> None:
    if not keeper.cancelled() and (error := keeper.exception()) is not None:
        log.debug("session.broken", detail=str(error))


class Door:
    """The carrier, and a note of who turned us away: waiting for them would be in vain."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._refusals: dict[str, asyncio.Future[Refused]] = {}
        """Of each address, once every place that it leads to has turned us away."""
        self._places: dict[str, frozenset[str]] = {}
        self._refused: dict[str, Refused] = {}
        """Places that did so when they were last dialled."""

    @property
    def me(self) -> Identity:
        """The identity this process presents."""
        return self._carrier.me

    @property
    def incarnation(self) -> str:
        """What every handshake carries."""
        return self._carrier.incarnation

    @property
    def credentials(self) -> object:
        """As the carrier says."""
        return self._carrier.credentials

    async def places(self, address: str) -> Sequence[str]:
        """As the carrier says; each is dialled for this address."""
        found = await self._carrier.places(address)
        self._places[address] = frozenset(found)
        return found

    async def dial(self, address: str, *, expect: Kind) -> Link:
        """Open a link; a refusal is remembered until the next link is opened."""
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
        """Clients do not listen, but a carrier can."""
        return await self._carrier.serve(address, on_link)

    def grant(self, peer: Identity) -> Grant:
        """As the carrier says."""
        return self._carrier.grant(peer)

    def trust_report(self) -> TrustReport:
        """As the carrier says."""
        return self._carrier.trust_report()

    def warnings(self) -> list[str]:
        """As the carrier says."""
        return self._carrier.warnings()

    async def unless_refused(self, address: str, asking: Coroutine[Any, Any, ResultT]) -> ResultT:
        """The result, or the refusal as soon as it is known."""
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
