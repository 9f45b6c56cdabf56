"""Peers: what every service and client talks through, made, served and kept alive.

`dial` connects to a server and `listen` serves; a `Session` dials again whenever its connection
ends.  What a `Peer` can do is in `runtime.conversation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midstreamer.domain.errors import DeadlineExceeded, MidstreamerError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Answer, Request
from midstreamer.runtime.conversation import IN_FLIGHT_MAX, Handle, OnPeer, Peer
from midstreamer.runtime.tasks import pause
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier, Link, Server

__all__ = ["IN_FLIGHT_MAX", "Handle", "OnPeer", "Peer", "Session", "dial", "listen"]

log = logs.get(__name__)

BACKOFF_MOST_S = 2.0
"""Longest pause before dialling again."""
STEADY_S = 10.0
"""After a link that lived this long the next is dialled with the least pause again: one that is
opened and fails at once, again and again, must not be dialled as fast as possible."""


async def dial(
    carrier: Carrier, address: str, *, expect: Kind, handle: Handle | None = None
) -> Peer:
    """Connect to a server of a kind; Refused says why it turned us away, or we it."""
    peer = Peer(await carrier.dial(address, expect=expect), carrier.me, handle)
    _keep(asyncio.get_running_loop().create_task(peer.run()))
    return peer


async def listen(
    carrier: Carrier,
    address: str,
    *,
    handle: Handle,
    opened: OnPeer | None = None,
    closed: OnPeer | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> Server:
    """Serve.

    ``opened`` begins before the peer's first frame is taken, runs beside the connection and is
    cancelled with it; ``closed`` runs after its last.
    """

    async def on_link(link: Link) -> None:
        peer = Peer(link, carrier.me, handle, in_flight_max=in_flight_max)
        try:
            await _attended(peer, opened)
        finally:
            if closed is not None:
                await closed(peer)

    return await carrier.serve(address, on_link)


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


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """The loop holds tasks weakly; this holds them until they are done."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class Session:
    """Keeps one peer at an address alive: dials, and dials again."""

    def __init__(
        self,
        carrier: Carrier,
        address: str | Callable[[], str],
        *,
        expect: Kind,
        handle: Handle | None = None,
        opened: OnPeer | None = None,
    ) -> None:
        self._carrier = carrier
        self._address = address if callable(address) else lambda: address
        self._expect = expect
        self._handle = handle
        self._opened = opened
        self._peer: Peer | None = None
        self._changed = asyncio.Event()
        self._last_error = ""
        self._failed = asyncio.Event()
        """An attempt to dial failed since this was cleared."""

    @property
    def peer(self) -> Peer | None:
        """The live peer, when there is one."""
        return self._peer if self._peer and not self._peer.closed else None

    async def run(self) -> None:
        """Keep the peer alive until cancelled."""
        loop, attempts = asyncio.get_running_loop(), 0
        while True:
            attempts += 1
            began_s = loop.time()
            try:
                await self._once()
            except (MidstreamerError, OSError) as error:
                self._complain(error)
            if loop.time() - began_s > STEADY_S:
                attempts = 1
            await asyncio.sleep(pause(attempts, most_s=BACKOFF_MOST_S))

    async def ask(self, frame: Request, *, budget_s: float) -> Answer:
        """Ask the live peer, waiting for one within the budget. Does not retry."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + budget_s
        peer = await self._live(budget_s)
        return await peer.ask(frame, budget_s=max(0.0, until_s - loop.time()))

    async def reached(self, budget_s: float) -> None:
        """Return when there is a live peer; raise when an attempt fails, or time runs out."""
        self._failed.clear()
        tasks = [asyncio.ensure_future(self._live(budget_s)),
                 asyncio.ensure_future(self._failed.wait())]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if tasks[0] in done:
            tasks[0].result()
        else:
            raise Unavailable(f"no {self._expect} at {self._address()}: {self._last_error}")

    async def _once(self) -> None:
        link = await self._carrier.dial(self._address(), expect=self._expect)
        peer = Peer(link, self._carrier.me, self._handle)
        self._peer, self._last_error = peer, ""
        self._changed.set()
        try:
            await _attended(peer, self._opened)
        finally:
            self._peer = None
            self._changed.clear()

    async def _live(self, budget_s: float) -> Peer:
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
                f"no {self._expect} at {self._address()} within {budget_s:g} s"
                + (f": {self._last_error}" if self._last_error else "")
            ) from error

    def _complain(self, error: MidstreamerError | OSError) -> None:
        if str(error) != self._last_error:  # say it once, not at every attempt
            log.warning("session.waiting", kind=self._expect, at=self._address(), detail=str(error))
        self._last_error = str(error)
        self._failed.set()
