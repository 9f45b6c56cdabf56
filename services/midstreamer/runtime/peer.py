"""Peers: what every service and client talks through, made, served and kept alive.

`dial` connects to a server and `listen` serves; a `Session` dials again whenever its connection
ends.  What a `Peer` can do is in `runtime.conversation`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from midstreamer.domain.errors import DeadlineExceeded, MidstreamerError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import Answer, Request
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.conversation import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.runtime.targets import Targets
from midstreamer.runtime.tasks import drop, pause, spread
from midstreamer.telemetry import logs
from midstreamer.transport import racing
from midstreamer.transport.carrier import Carrier, Link, Server

__all__ = ["IN_FLIGHT_MAX", "Handle", "Listener", "OnPeer", "Peer", "Session", "dial", "listen"]

log = logs.get(__name__)

BACKOFF = Backoff(first_s=0.05, most_s=2.0)
"""Between two attempts to dial one address."""
LINK_AGE_S = 3600.0
LOOK_S = 1.0
"""So often a session looks whether this process has a new certificate."""
HANDOVER_S = 0.25
"""So long both links take requests: the other side comes to know the new one meanwhile."""
RETIRE_S = 60.0
"""Longest that a replaced link is kept for what is under way on it."""
QUIET_S = 0.5
"""A peer that does not know Drain has noticed the new link after so long."""
SILENT_S = 3.0
"""A peer that knows Drain says it at once. One that has not after so long is not waited for."""
STEADY_S = 10.0
"""After a link that lived this long the next is dialled with the least pause again: one that is
opened and fails at once, again and again, must not be dialled as fast as possible."""


async def dial(
    carrier: Carrier, address: str, *, expect: Kind, handle: Handle | None = None
) -> Peer:
    """Connect to a server of a kind; Refused says why it turned us away, or we it.

    The peer runs until the link ends, or until it is closed.
    """
    peer = Peer(await carrier.dial(address, expect=expect), carrier.me, handle)
    peer.start()
    return peer


async def listen(
    carrier: Carrier,
    address: str,
    *,
    handle: Handle,
    opened: OnPeer | None = None,
    closed: OnPeer | None = None,
    told_drain: Callable[[Peer], None] | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> Listener:
    """Serve.

    ``opened`` begins before the peer's first frame is taken, runs beside the connection and is
    cancelled with it; ``closed`` runs after its last.  ``told_drain`` is called when it says Drain.
    """
    peers: set[Peer] = set()

    async def on_link(link: Link) -> None:
        peer = Peer(link, carrier.me, handle, in_flight_max=in_flight_max)
        if told_drain is not None:
            peer.on_drain = told_drain
        peers.add(peer)
        try:
            if listener.refusing:  # its handshake was under way when the others were told
                peer.drain(leaving=True)
            await _attended(peer, opened)
        finally:
            peers.discard(peer)
            if closed is not None:
                await closed(peer)

    listener = Listener(await carrier.serve(address, on_link), peers)
    return listener


class Listener:
    """A listening end, and the peers that are connected to it."""

    def __init__(self, server: Server, peers: set[Peer]) -> None:
        self.server = server
        self.refusing = False
        """New links are not taken any more."""
        self._peers = peers

    @property
    def address(self) -> str:
        """``host:port`` really bound."""
        return self.server.address

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Those that are connected now."""
        return tuple(self._peers)

    def refuse_new(self) -> None:
        """Take no new link; those that are open go on."""
        self.refusing = True
        self.server.refuse_new()

    async def sent_away(self, kinds: Collection[Kind]) -> None:
        """Tell peers of these kinds that this process is about to stop.

        Returns when nothing of theirs is under way and none will ask any more.  The caller bounds
        the time.
        """
        told: set[Peer] = set()
        while fresh := [p for p in self._peers if p.identity.kind in kinds and p not in told]:
            told.update(fresh)
            for peer in fresh:
                peer.drain(leaving=True)
            await asyncio.gather(*map(_quiet, fresh))

    async def close(self) -> None:
        """Stop accepting and close every link."""
        await self.server.close()


async def _attended(peer: Peer, opened: OnPeer | None) -> None:
    """Run a peer to its end, with what its owner wants to do beside it."""
    beside = asyncio.get_running_loop().create_task(_beside(peer, opened)) if opened else None
    try:
        await asyncio.sleep(0)  # what it does before it first waits comes before the first frame
        await peer.run()
    finally:
        if beside is not None:
            beside.cancel()
            await asyncio.wait({beside})


async def _beside(peer: Peer, opened: OnPeer) -> None:
    try:
        await opened(peer)
    except MidstreamerError as error:
        log.warning("peer.dropped", peer=peer.identity.name, code=error.code, detail=error.message)
        await peer.close(error.code, error.message)
    except Exception:
        log.exception("peer.failed", peer=peer.identity.name)
        await peer.close(MidstreamerError.code, "this side failed")


@dataclass(eq=False)
class _Line:
    """One link of a session."""

    address: str
    peer: Peer
    beside: asyncio.Task[None] | None
    began_s: float
    worn_s: float
    """When it is to be replaced."""
    credentials: object


class Session:
    """Keeps one peer at one of some addresses alive: dials, and dials again.

    A link is replaced by a new one when it is old, when this process has a new certificate, and
    when the other side drains.  New requests go to the new link; the old one is closed when
    nothing is under way on it.
    """

    def __init__(
        self,
        carrier: Carrier,
        address: str | Sequence[str] | Callable[[], Sequence[str]],
        *,
        expect: Kind,
        handle: Handle | None = None,
        opened: OnPeer | None = None,
        link_age_s: float = LINK_AGE_S,
    ) -> None:
        self._carrier = carrier
        self._addresses = _several(address)
        self._expect = expect
        self._handle = handle
        self._opened = opened
        self._link_age_s = link_age_s
        self._targets = Targets(pause=functools.partial(pause, backoff=BACKOFF), dice=random.random)
        self._line: _Line | None = None
        self._tasks = asyncio.TaskGroup()
        self._wake = asyncio.Event()
        """Something about the present link is to be looked at."""
        self._changed = asyncio.Event()
        self._last_error = ""
        self._told: set[str] = set()
        """Errors logged since the last link."""
        self._failed = asyncio.Event()
        """An attempt to dial failed since this was cleared."""
        self._sent_away = False
        self._leaving = False
        """This process is about to stop: no other link is dialled."""

    @property
    def peer(self) -> Peer | None:
        """The live peer that takes requests, when there is one."""
        line = self._line
        return line.peer if line and not (line.peer.closed or line.peer.draining) else None

    @property
    def linked(self) -> bool:
        """Whether there is a link, though its other side may take no more requests on it."""
        return self._line is not None and not self._line.peer.closed

    @property
    def sent_away(self) -> bool:
        """Whether the last peer said that its process is about to stop, and no other was found."""
        return self._sent_away and self.peer is None

    async def run(self) -> None:
        """Keep the peer alive until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                while True:
                    await self._replaced()
                    await self._worn()
                    if self._leaving:
                        await asyncio.Event().wait()  # until it is cancelled
            finally:
                self._line = None
                self._changed.clear()

    async def leave(self, within_s: float) -> None:
        """Tell the peer that this process is about to stop; return when nothing is under way."""
        self._leaving = True
        if (line := self._line) is not None:
            line.peer.drain(leaving=True)
            try:
                async with asyncio.timeout(within_s):
                    await _quiet(line.peer)
            except TimeoutError:
                log.info("session.left_busy", peer=line.peer.identity.name)

    async def ask(self, frame: Request, *, budget_s: float) -> Answer:
        """Ask the live peer, waiting for one within the budget. Does not retry."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + budget_s
        peer = await self.live(budget_s)
        return await peer.ask(frame, budget_s=max(0.0, until_s - loop.time()))

    async def reached(self, budget_s: float) -> None:
        """Return when there is a live peer; raise when an attempt fails, or time runs out."""
        self._failed.clear()
        tasks = [asyncio.ensure_future(self.live(budget_s)),
                 asyncio.ensure_future(self._failed.wait())]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                drop(task)
        if tasks[0] in done:
            tasks[0].result()
        else:
            raise Unavailable(f"no {self._expect} at {self._where()}: {self._last_error}")

    # --- one link after another ---

    async def _replaced(self) -> None:
        """Have a new link in the place of the old one, which goes on until it is quiet."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                line = await self._dialled()
            except (MidstreamerError, OSError) as error:
                self._complain(error)
                continue
            break
        old, self._line = self._line, line
        self._last_error, self._sent_away = "", False
        self._told.clear()
        if old is not None and old.beside is not None:
            # What follows the old link ends before its like on the new one begins.
            old.beside.cancel()
            await asyncio.wait({old.beside})
        if self._opened is not None:
            line.beside = self._tasks.create_task(_beside(line.peer, self._opened))
            await asyncio.sleep(0)  # what it does before it first waits comes first
        self._tasks.create_task(self._ran(line, loop.time()))
        self._changed.set()
        if old is not None:
            self._tasks.create_task(_retired(old))

    async def _dialled(self) -> _Line:
        """The first of the addresses that answers, the best first."""
        addresses = self._addresses()
        if not addresses:
            await asyncio.sleep(BACKOFF.most_s)
            raise Unavailable(f"no {self._expect} is known", retry_after_s=BACKOFF.most_s)
        loop = asyncio.get_running_loop()
        order = self._targets.order(addresses, loop.time())
        await asyncio.sleep(order[0][0] - loop.time())
        ready = [address for free_s, address in order if free_s <= loop.time()]

        async def attempt(address: str) -> tuple[str, Link]:
            try:
                return address, await self._carrier.dial(address, expect=self._expect)
            except (MidstreamerError, OSError):
                self._targets.failed(address, loop.time())
                raise

        credentials = self._carrier.credentials
        address, link = await racing.first(
            [functools.partial(attempt, address) for address in ready], discard=_discard
        )
        peer = Peer(link, self._carrier.me, self._handle)
        peer.on_drain = self._told_to_move
        now_s = loop.time()
        worn_s = now_s + spread(self._link_age_s)
        return _Line(address, peer, None, now_s, worn_s, credentials)

    def _told_to_move(self, peer: Peer) -> None:
        if self._line is not None and self._line.peer is peer:
            self._changed.clear()
            self._wake.set()

    async def _ran(self, line: _Line, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            await line.peer.run()
        finally:
            if line.beside is not None:
                line.beside.cancel()
                await asyncio.wait({line.beside})
            if self._line is line:
                self._line = None
                self._changed.clear()
                if loop.time() - began_s > STEADY_S:
                    self._targets.steady(line.address)
                self._targets.failed(line.address, loop.time())
                self._wake.set()

    async def _worn(self) -> None:
        """Return when the link is to be replaced: it ended, or it is old, or it was told so."""
        loop = asyncio.get_running_loop()
        while (line := self._line) is not None and not line.peer.closed:
            if line.peer.draining:
                self._sent_away = line.peer.leaving
                if line.peer.leaving:
                    self._targets.sent_away(line.address, loop.time())
                if loop.time() - line.began_s < STEADY_S:  # it may do so to the next one too
                    self._targets.failed(line.address, loop.time())
                return
            if loop.time() >= line.worn_s or line.credentials != self._carrier.credentials:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(line.worn_s, loop.time() + LOOK_S)):
                    await self._wake.wait()

    async def live(self, budget_s: float) -> Peer:
        """The live peer; DeadlineExceeded when there is none in time."""
        if (live := self.peer) is not None:
            return live
        try:
            async with asyncio.timeout(budget_s):
                while (peer := self.peer) is None:
                    await self._changed.wait()
                    await asyncio.sleep(0)
                return peer
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no {self._expect} at {self._where()} within {budget_s:g} s"
                + (f": {self._last_error}" if self._last_error else "")
            ) from error

    def _where(self) -> str:
        return ", ".join(self._addresses()) or "any known address"

    def _complain(self, error: MidstreamerError | OSError) -> None:
        if str(error) not in self._told:  # say it once, not at every attempt
            self._told.add(str(error))
            log.warning("session.waiting", kind=self._expect, at=self._where(), detail=str(error))
        self._last_error = str(error)
        self._failed.set()


async def _retired(old: _Line) -> None:
    """Close a link that was replaced once nothing is under way on it."""
    try:
        async with asyncio.timeout(RETIRE_S):
            await asyncio.sleep(HANDOVER_S)
            old.peer.drain()
            await _quiet(old.peer)
    except TimeoutError:
        log.info("session.left_busy", peer=old.peer.identity.name)
    await old.peer.close()


async def _quiet(peer: Peer) -> None:
    """Return when nothing is under way after `Peer.drain`, and nothing will come."""
    loop = asyncio.get_running_loop()
    silent_s = loop.time() + SILENT_S
    while not peer.closed:
        if Capability.DRAIN in peer.capabilities:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await peer.settled()
                    return
            if peer.draining or loop.time() < silent_s:
                continue
        else:  # it sends requests here until it has noticed the newer link
            await asyncio.sleep(QUIET_S)
        if not peer.busy:
            return


async def _discard(dialled: tuple[str, Link]) -> None:
    await dialled[1].close()


def _several(
    address: str | Sequence[str] | Callable[[], Sequence[str]],
) -> Callable[[], Sequence[str]]:
    if callable(address):
        return address
    addresses = (address,) if isinstance(address, str) else tuple(address)
    return lambda: addresses
