"""Connect to other processes: every service and client sends and receives through a `Peer`.

`dial` connects to a server once, `listen` serves, and a `Session` keeps a connection and dials
again whenever it ends.  The class `Peer` itself is in `runtime.link_requests`.
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
from midstreamer.runtime.dialling import BACKOFF, Dialler
from midstreamer.runtime.link_requests import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.runtime.peer_server import SILENT, Listener, beside, listen, quiet
from midstreamer.runtime.tasks import drop, spread
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link

__all__ = ["IN_FLIGHT_MAX", "Handle", "Listener", "OnPeer", "Peer", "Session", "dial", "listen"]

log = logs.get(__name__)

LINK_AGE_S = 3600.0
"""Default of the number of seconds after which a link is replaced by a new one."""
LOOK_S = 1.0
"""Seconds between two checks whether this process has a new certificate, which needs a new link."""
LOOK_WAYS_S = 0.25
"""Seconds between two checks of a link whose address names several carriers: if packets of the peer
are overdue, another carrier is tried. Such links are checked this often in place of `LOOK_S`."""
MOVE_S = 1.0
"""Maximum seconds that another carrier may take to answer; after that the present link is kept."""
HANDOVER_S = 0.25
"""Seconds between the opening of a new link and the Drain on the old link that it replaces. In this
time the peer may still send requests on the old link, because it may not know the new link yet."""
RETIRE_S = 60.0
"""Maximum seconds that a replaced link is kept open for requests under way on it."""
STEADY_S = 10.0
"""Seconds after which a link counts as stable. When a stable link ends, the earlier failures of its
address are forgotten, so the pause before the next dial is the shortest. When a link fails soon
after it opened, they still count, so the pause grows."""


async def dial(
    carrier: Carrier, address: str, *, expect: Kind, handle: Handle | None = None
) -> Peer:
    """Connect to a server of the kind ``expect`` and return its running `Peer`.

    Raises Refused, with the reason, when either side refuses the other.  The peer runs until it is
    closed or the link ends.
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
    """Time at which the link is to be replaced because of its age."""
    credentials: object
    """Credentials of this process when the link was dialled. When newer credentials exist, the link
    is replaced."""


class Session:
    """Keeps a link to a server at one of several addresses: dials, and dials again when it ends.

    A link is replaced by a new one when it is old, when this process has a new certificate, and
    when the server drains.  New requests then go to the new link, and the old link is closed when
    no request is under way on it.
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
        """Set when the present link has ended or its peer drains, so that it is checked at once."""
        self._changed = asyncio.Event()
        self._last_error = ""
        self._told: set[str] = set()
        """Errors that were logged since the last link opened, so that each error is logged once."""
        self._failed = asyncio.Event()
        """Set when an attempt to dial fails."""
        self._sent_away = False
        self._leaving = False
        """Whether this process is about to stop, so that no further link is dialled."""

    @property
    def peer(self) -> Peer | None:
        """The connected peer that takes requests; None if there is none now."""
        line = self._line
        return line.peer if line and not (line.peer.closed or line.peer.draining) else None

    @property
    def linked(self) -> bool:
        """Whether a link is open, even if its peer drains and takes no more requests on it."""
        return self._line is not None and not self._line.peer.closed

    @property
    def sent_away(self) -> bool:
        """Whether the last server announced that it will stop, and no other server is connected."""
        return self._sent_away and self.peer is None

    async def run(self) -> None:
        """Keep a peer connected until cancelled."""
        last: _Line | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    while True:
                        await self._replaced()
                        await self._worn()
                        if self._leaving:
                            await asyncio.Event().wait()  # wait until cancelled
                finally:
                    last, self._line = self._line, None
                    self._changed.clear()
        finally:
            await self._dialler.close()
            if last is not None:
                # The task `_ran` closes its link at its end. But if it was cancelled before its
                # first step, the link is still open.
                await last.peer.close()

    async def leave(self, within_s: float) -> None:
        """Send Drain to the peer, because this process stops; return when no request is under way.

        Returns after ``within_s`` seconds in any case.
        """
        self._leaving = True
        if (line := self._line) is not None:
            line.peer.drain(leaving=True)
            try:
                async with asyncio.timeout(within_s):
                    await quiet(line.peer)
            except TimeoutError:
                log.info("session.left_busy", peer=line.peer.identity.name)

    async def ask(self, frame: Request, *, budget_s: float) -> Answer:
        """Send a request to the connected peer and return its answer. Does not retry.

        ``budget_s`` bounds the wait for a connection and the wait for the answer together.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + budget_s
        peer = await self.live(budget_s)
        return await peer.ask(frame, budget_s=max(0.0, until_s - loop.time()))

    async def reached(self, budget_s: float) -> None:
        """Return when a peer is connected.

        Raises Unavailable when an attempt to dial fails, DeadlineExceeded after ``budget_s``.
        """
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

    # --- changing links ---

    async def _replaced(self) -> None:
        """Dial until a new link replaces the present link, which serves requests meanwhile."""
        while not self._leaving:
            try:
                line = await self._dialled()
            except (MidstreamerError, OSError) as error:
                self._complain(error)
                continue
            await self._installed(line)
            return

    async def _installed(self, line: _Line) -> None:
        """Make a new link the one that takes requests, and retire the old one."""
        if self._leaving:  # close the new link: `leave` has sent Drain on the old link only
            await line.peer.close()
            return
        loop = asyncio.get_running_loop()
        self._ways.opened(loop.time())
        old, self._line = self._line, line
        self._last_error, self._sent_away = "", False
        self._told.clear()
        if old is not None and old.beside is not None:
            # End the `opened` task of the old link before the `opened` task of the new link starts.
            old.beside.cancel()
            await asyncio.wait({old.beside})
        if self._opened is not None:
            line.beside = self._tasks.create_task(beside(line.peer, self._opened))
            await asyncio.sleep(0)  # `opened` runs to its first await, before any request is sent
        self._tasks.create_task(self._ran(line, loop.time()))
        self._changed.set()
        if old is not None and old.peer.silence > SILENT:
            await old.peer.close()  # its requests fail now, not only when the link times out
        elif old is not None:
            self._tasks.create_task(_retired(old))

    async def _moved(self, line: _Line) -> bool:
        """Replace the link by a link over another carrier of its address, if that is due and works.

        Returns whether the link was replaced.
        """
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
                # While the present link is silent, nothing is lost by waiting longer for a new one.
                timeout=None if silent else MOVE_S,
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
        """Dial the addresses, the best first, and return the first link that opens."""
        if not (addresses := self._addresses()):
            await asyncio.sleep(BACKOFF.most_s)
            raise Unavailable(
                f"no address of a {self._expect} is known", retry_after_s=BACKOFF.most_s
            )
        credentials = self._carrier.credentials
        return self._lined(*await self._dialler.next(addresses), credentials)

    async def _beside(self, address: str, ways: Sequence[str]) -> _Line:
        """Dial the present link's address with other carriers; return the first link that opens."""
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
        """Return when the present link must be replaced.

        That is when the link has ended, when it is too old, when its peer drains, or when this
        process has a new certificate.
        """
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
        """Return the connected peer, waiting for one; DeadlineExceeded after ``budget_s``."""
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
        if str(error) not in self._told:  # log each error once, not at every attempt
            self._told.add(str(error))
            log.warning(
                "session.waiting", kind=self._expect, where=self._where(), detail=str(error)
            )
        self._last_error = str(error)
        self._failed.set()


async def _retired(old: _Line) -> None:
    """Close a replaced link once no request is under way on it, or after `RETIRE_S`."""
    try:
        async with asyncio.timeout(RETIRE_S):
            await asyncio.sleep(HANDOVER_S)
            old.peer.drain()
            await quiet(old.peer)
    except TimeoutError:
        log.info("session.left_busy", peer=old.peer.identity.name)
    await old.peer.close()


async def _dropped(dialling: asyncio.Future[_Line]) -> None:
    """Cancel an attempt to dial; if it has opened a link, close the link."""
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
