"""Peers: what every service and client talks through, made, served and kept alive.

`dial` connects to a server and `listen` serves; a `Session` dials again whenever its connection
ends.  What a `Peer` can do is in `runtime.conversation`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from midstreamer.domain.errors import DeadlineExceeded, MidstreamerError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Answer, Request
from midstreamer.runtime.carrier_choice import Ways
from midstreamer.runtime.conversation import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.runtime.dialling import BACKOFF, Dialler
from midstreamer.runtime.listener import SILENT, Listener, beside, listen, quiet
from midstreamer.runtime.tasks import drop, spread
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link

__all__ = ["IN_FLIGHT_MAX", "Handle", "Listener", "OnPeer", "Peer", "Session", "dial", "listen"]

log = logs.get(__name__)

LINK_AGE_S = 3600.0
LOOK_S = 1.0
"""So often a session looks whether this process has a new certificate."""
LOOK_WAYS_S = 0.25
"""So often it looks whether the peer has fallen silent, where another carrier leads there too."""
MOVE_S = 1.0
"""So long another carrier may take to answer before the present link is gone on with."""
HANDOVER_S = 0.25
"""So long both links take requests: the other side comes to know the new one meanwhile."""
RETIRE_S = 60.0
"""Longest that a replaced link is kept for what is under way on it."""
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
        self._dialler = Dialler(carrier, expect)
        self._addresses = _several(address)
        self._expect = expect
        self._handle = handle
        self._opened = opened
        self._link_age_s = link_age_s
        self._ways = Ways(random.random)
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
        last: _Line | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    while True:
                        await self._replaced()
                        await self._worn()
                        if self._leaving:
                            await asyncio.Event().wait()  # until it is cancelled
                finally:
                    last, self._line = self._line, None
                    self._changed.clear()
        finally:
            await self._dialler.close()
            if last is not None:  # what runs it may have been cancelled before it began
                await last.peer.close()

    async def leave(self, within_s: float) -> None:
        """Tell the peer that this process is about to stop; return when nothing is under way."""
        self._leaving = True
        if (line := self._line) is not None:
            line.peer.drain(leaving=True)
            try:
                async with asyncio.timeout(within_s):
                    await quiet(line.peer)
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
        while not self._leaving:
            try:
                line = await self._dialled()
            except (MidstreamerError, OSError) as error:
                self._complain(error)
                continue
            await self._installed(line)
            return

    async def _installed(self, line: _Line) -> None:
        """Have a new link take the requests."""
        if self._leaving:  # the other side would never hear Drain on it
            await line.peer.close()
            return
        loop = asyncio.get_running_loop()
        self._ways.opened(loop.time())
        old, self._line = self._line, line
        self._last_error, self._sent_away = "", False
        self._told.clear()
        if old is not None and old.beside is not None:
            # What follows the old link ends before its like on the new one begins.
            old.beside.cancel()
            await asyncio.wait({old.beside})
        if self._opened is not None:
            line.beside = self._tasks.create_task(beside(line.peer, self._opened))
            await asyncio.sleep(0)  # what it does before it first waits comes first
        self._tasks.create_task(self._ran(line, loop.time()))
        self._changed.set()
        if old is not None and old.peer.silence > SILENT:
            await old.peer.close()  # whoever waits for an answer there asks again on the new link
        elif old is not None:
            self._tasks.create_task(_retired(old))

    async def _moved(self, line: _Line) -> bool:
        """Take another carrier of the same address, when it is time and it answers at once."""
        loop = asyncio.get_running_loop()
        silent = line.peer.silence > SILENT
        ways = self._ways.wanted(line.address, line.peer.scheme, silent=silent, now_s=loop.time())
        if self._leaving or not ways:
            return False
        dialling = asyncio.ensure_future(self._beside(line.address, ways))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait(
                {dialling, waking},
                timeout=None if silent else MOVE_S,  # there is nothing else to go on with
                return_when=asyncio.FIRST_COMPLETED,
            )
        except BaseException:
            await _dropped(dialling)
            raise
        finally:
            drop(waking)
            if not dialling.done():
                drop(dialling)
        if not dialling.done() or dialling.cancelled() or dialling.exception() is not None:
            log.debug("session.stays", address=line.address, silent=silent)
            self._ways.failed(loop.time())
            return False
        new = dialling.result()
        log.info("session.moves", address=line.address, by=new.peer.scheme, silent=silent)
        await self._installed(new)
        return True

    async def _dialled(self) -> _Line:
        """The first of the addresses that answers, the best first."""
        if not (addresses := self._addresses()):
            await asyncio.sleep(BACKOFF.most_s)
            raise Unavailable(f"no {self._expect} is known", retry_after_s=BACKOFF.most_s)
        credentials = self._carrier.credentials
        return self._lined(*await self._dialler.next(addresses), credentials)

    async def _beside(self, address: str, ways: Sequence[str]) -> _Line:
        """A line by another carrier of the address that there is a link to."""
        credentials = self._carrier.credentials
        return self._lined(*await self._dialler.first(address, ways), credentials)

    def _lined(self, address: str, link: Link, credentials: object) -> _Line:
        loop = asyncio.get_running_loop()
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
                steady = loop.time() - began_s > STEADY_S
                self._dialler.ended(line.address, line.peer.identity.name, steady=steady)
                self._wake.set()

    async def _worn(self) -> None:
        """Return when the link is to be replaced: it ended, or it is old, or it was told so."""
        loop = asyncio.get_running_loop()
        while (line := self._line) is not None and not line.peer.closed:
            if line.peer.draining:
                self._sent_away = line.peer.leaving
                self._dialler.drains(
                    line.address,
                    line.peer.identity.name,
                    leaving=line.peer.leaving,
                    steady=loop.time() - line.began_s >= STEADY_S,
                )
                return
            if loop.time() >= line.worn_s or line.credentials != self._carrier.credentials:
                return
            self._wake.clear()
            if await self._moved(line):
                continue
            look_s = LOOK_WAYS_S if self._ways.several(line.address) else LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(line.worn_s, loop.time() + look_s)):
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
            log.warning(
                "session.waiting", kind=self._expect, where=self._where(), detail=str(error)
            )
        self._last_error = str(error)
        self._failed.set()


async def _retired(old: _Line) -> None:
    """Close a link that was replaced once nothing is under way on it."""
    try:
        async with asyncio.timeout(RETIRE_S):
            await asyncio.sleep(HANDOVER_S)
            old.peer.drain()
            await quiet(old.peer)
    except TimeoutError:
        log.info("session.left_busy", peer=old.peer.identity.name)
    await old.peer.close()


async def _dropped(dialling: asyncio.Future[_Line]) -> None:
    """End an attempt to dial, and its link when it has come to one."""
    drop(dialling)
    if dialling.done() and not dialling.cancelled() and dialling.exception() is None:
        await dialling.result().peer.close()


def _several(
    address: str | Sequence[str] | Callable[[], Sequence[str]],
) -> Callable[[], Sequence[str]]:
    if callable(address):
        return address
    addresses = (address,) if isinstance(address, str) else tuple(address)
    return lambda: addresses
