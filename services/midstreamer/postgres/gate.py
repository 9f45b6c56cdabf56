"""The door in front of PostgreSQL: TLS from outside, the server's own socket behind it.

The server listens on a socket in a folder of its own and on no network.  Here each client gets TLS
1.3 with the certificate that is in force when it comes, and then speaks to the server through us;
what it says is not looked at.  So the key stays in the memory of this process, a renewed
certificate needs no word to the server, and open connections live on.

Nothing a client sends in the clear is passed on, and it has `HANDSHAKE_S` to come so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from midstreamer.domain.errors import ConfigError
from midstreamer.postgres import startup
from midstreamer.postgres.startup import Ask
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security import tls
from midstreamer.security.credentials import Credentials
from midstreamer.telemetry import logs, metrics

HANDSHAKE_S = 5.0
CLOSE_S = 2.0
EARLY_BYTES_MAX = 64 * 1024
"""What a client may say before the server behind is reached."""
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""A client whose machine is gone keeps no row locked for longer than some ten seconds."""

log = logs.get(__name__)


class Gate:
    """Lets clients with TLS through to a server's socket."""

    def __init__(
        self,
        behind: Path,
        credentials: Callable[[], Credentials],
        life: Lifecycle,
        *,
        guests_max: int,
    ) -> None:
        """``behind`` is the server's socket; ``credentials`` says what to show now."""
        self._behind = behind
        self._credentials = credentials
        self._life = life
        self._guests_max = guests_max
        self._guests: set[Guest] = set()
        self._context: tuple[Credentials, ssl.SSLContext] | None = None

    @asynccontextmanager
    async def opened(self, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
        """Be open while inside; gives the address really bound."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Guest(self), host, port)
        except OSError as error:
            raise ConfigError(
                f"postgres.listen = {host}:{port}: {error.strerror or error}; choose another one"
            ) from error
        try:
            yield server.sockets[0].getsockname()[:2]
        finally:
            server.close()
            for guest in list(self._guests):
                guest.abort()

    def came(self, guest: Guest) -> bool:
        """Somebody connected; whether there is a place."""
        self._guests.add(guest)
        metrics.POSTGRES_CONNECTIONS.set(len(self._guests))
        return len(self._guests) <= self._guests_max

    def went(self, guest: Guest) -> None:
        """It is gone; safe to call twice."""
        self._guests.discard(guest)
        metrics.POSTGRES_CONNECTIONS.set(len(self._guests))

    def admit(self, guest: Guest) -> None:
        """It asked for TLS and waits for its handshake."""
        self._life.spawn("postgres.guest", self._attend(guest))

    async def _attend(self, guest: Guest) -> None:
        try:
            await self._joined(guest)
        except (OSError, TimeoutError) as error:
            refused(guest, str(error) or type(error).__name__)
        finally:
            guest.abort()
            self.went(guest)

    async def _joined(self, guest: Guest) -> None:
        """Join a client with the server until one of them ends."""
        loop, near, far = asyncio.get_running_loop(), Pipe(), Pipe()
        if guest.transport.is_closing():  # nobody would tell `start_tls`, not even its timeout
            raise ConnectionError("it left before its handshake")
        secured = await loop.start_tls(
            guest.transport, near, self._tls(), server_side=True,
            ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=CLOSE_S,
        )  # fmt: skip
        if secured is None:
            raise ConnectionError("it left during its handshake")
        near.connection_made(secured)
        try:
            await loop.create_unix_connection(lambda: far, str(self._behind))
        except OSError:
            near.end(startup.refusal(startup.STARTING, "the database system is starting up"))
            await near.ended.wait()
            return
        try:
            near.join(far)
            await near.ended.wait()
            await far.ended.wait()
        finally:
            far.abort()

    def _tls(self) -> ssl.SSLContext:
        current = self._credentials()
        if self._context is None or self._context[0] != current:
            self._context = (current, tls.serving(current))
        return self._context[1]


class Guest(asyncio.Protocol):
    """A client that has no TLS yet."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and give it its time."""
        self.transport = cast("asyncio.Transport", transport)
        if not self._gate.came(self):
            refused(self, "there are too many connections; see postgres.connections")
            self.abort()
            return
        with contextlib.suppress(OSError):  # it may have left already
            for level, option, value in _KEEPALIVE:
                transport.get_extra_info("socket").setsockopt(level, option, value)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """Read what it asks for, of which nothing else may follow."""
        self._head += data
        match startup.read(self._head):
            case Ask.MORE:
                pass
            case Ask.TLS:
                self._done()
                self.transport.pause_reading()
                self.transport.write(startup.YES)
                self._gate.admit(self)
            case Ask.GSS:
                self._head = b""
                self.transport.write(startup.NO)
            case Ask.TALK:
                refused(self, "it began in the clear")
                told = "only TLS is answered here: set sslmode=verify-full"
                self.transport.write(startup.refusal(startup.INVALID_AUTHORIZATION, told))
                self.transport.close()
            case Ask.NONSENSE:
                refused(self, f"it began with {Ask.NONSENSE.value}")
                self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It left, or was sent away, before it had TLS."""
        self._done()
        self._gate.went(self)

    def abort(self) -> None:
        """Be rid of it at once."""
        self.transport.abort()

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Pipe(asyncio.Protocol):
    """One end of a joined pair: what comes in at one goes out at the other, no faster."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self.other: Pipe | None = None
        self.early = b""

    def join(self, other: Pipe) -> None:
        """Pass on from now, both ways; what came before goes first."""
        self.other, other.other = other, self
        for one, to in ((self, other), (other, self)):
            to.write_out(one.early)
            one.early = b""
            if one.ended.is_set():
                to.end()

    def end(self, last: bytes = b"") -> None:
        """Close it once everything is written, and these bytes at last."""
        self.write_out(last)
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on, or keep it until there is somebody to pass it to."""
        if self.other is not None:
            self.other.write_out(data)
        elif self.ended.is_set() or len(self.early) + len(data) > EARLY_BYTES_MAX:
            self.ended.set()  # there may be no transport yet, and nothing is passed on with a gap
            self.abort()
        else:
            self.early += data

    def eof_received(self) -> bool:
        """A session has no half: the other end is closed too."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """End the other one, once it has all."""
        self.ended.set()
        if self.other is not None:
            self.other.end()

    def pause_writing(self) -> None:
        """It does not keep up: take no more in at the other end."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def write_out(self, data: bytes) -> None:
        """Say this at this end, if it is still there."""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


def refused(guest: Guest, why: str) -> None:
    """One line; strangers cause it, so its rate is limited."""
    peer = guest.transport.get_extra_info("peername")
    log.info("guest.refused", address=str(peer[0]) if peer else "", detail=why)
