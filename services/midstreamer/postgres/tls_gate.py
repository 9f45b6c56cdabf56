"""A gate in front of PostgreSQL: it terminates TLS and forwards bytes to the server's Unix socket.

The server listens only on a Unix socket in a private folder, on no network.  The gate accepts TCP
connections, makes a TLS 1.3 handshake with the present certificate, and then forwards bytes in both
directions without looking at them.  So the private key stays in the memory of this process.  A
renewed certificate needs no restart of the server, and open connections survive the renewal.

The gate forwards nothing that a client sends unencrypted.  A client has `HANDSHAKE_S` seconds to
ask for TLS, and as many again for the handshake.
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
from midstreamer.postgres import startup_message
from midstreamer.postgres.startup_message import Ask
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security import tls
from midstreamer.security.credentials import Credentials
from midstreamer.telemetry import logs, metrics

HANDSHAKE_S = 5.0
"""Maximum seconds until a client asks for TLS. The handshake may then take as many again."""
CLOSE_S = 2.0
"""Seconds to wait for the orderly end of a TLS session."""
EARLY_BYTES_MAX = 64 * 1024
"""Maximum bytes buffered from a client until the connection to the server is open."""
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""Socket options for clients. If a client's machine fails, its connection ends after about ten
seconds, and PostgreSQL then releases the client's row locks."""

log = logs.get(__name__)


class Gate:
    """Accepts clients, secures them by TLS, and connects each to the server's Unix socket."""

    def __init__(
        self,
        behind: Path,
        credentials: Callable[[], Credentials],
        life: Lifecycle,
        *,
        guests_max: int,
    ) -> None:
        """``behind`` is the path of the server's Unix socket.

        ``credentials`` returns the present certificate and key.  ``life`` runs the tasks of the
        gate.  At most ``guests_max`` clients may be connected at once.
        """
        self._behind = behind
        self._credentials = credentials
        self._life = life
        self._guests_max = guests_max
        self._guests: set[Guest] = set()
        self._context: tuple[Credentials, ssl.SSLContext] | None = None

    @asynccontextmanager
    async def opened(self, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
        """Accept clients while inside this context, which yields the bound (host, port).

        Raise ConfigError if the address cannot be bound.  At the end all clients are disconnected.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Guest(self), host, port)
        except OSError as error:
            raise ConfigError(
                f"postgres.listen = {host}:{port}: {error.strerror or error}; choose another"
                " address"
            ) from error
        try:
            yield server.sockets[0].getsockname()[:2]
        finally:
            server.close()
            for guest in list(self._guests):
                guest.abort()

    def came(self, guest: Guest) -> bool:
        """Count a client that has connected; return whether the limit allows the client."""
        self._guests.add(guest)
        metrics.POSTGRES_CONNECTIONS.set(len(self._guests))
        return len(self._guests) <= self._guests_max

    def went(self, guest: Guest) -> None:
        """Stop counting a client that has disconnected; safe to call twice."""
        self._guests.discard(guest)
        metrics.POSTGRES_CONNECTIONS.set(len(self._guests))

    def admit(self, guest: Guest) -> None:
        """Start the TLS handshake with a client that has asked for TLS."""
        self._life.spawn("postgres.guest", self._serve(guest))

    async def _serve(self, guest: Guest) -> None:
        try:
            await self._joined(guest)
        except (OSError, TimeoutError) as error:
            refused(guest, str(error) or type(error).__name__)
        finally:
            guest.abort()
            self.went(guest)

    async def _joined(self, guest: Guest) -> None:
        """Make the TLS handshake with the client, and connect to the server.

        Then forward bytes in both directions until both connections have ended.
        """
        loop, near, far = asyncio.get_running_loop(), Pipe(), Pipe()
        # With a transport that is closing, `start_tls` never returns, despite its timeout.
        if guest.transport.is_closing():
            raise ConnectionError("the client disconnected before the TLS handshake")
        secured = await loop.start_tls(
            guest.transport, near, self._tls(), server_side=True,
            ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=CLOSE_S,
        )  # fmt: skip
        if secured is None:
            raise ConnectionError("the client disconnected during the TLS handshake")
        near.connection_made(secured)
        try:
            await loop.create_unix_connection(lambda: far, str(self._behind))
        except OSError:
            near.end(
                startup_message.refusal(
                    startup_message.STARTING, "the database system is starting up"
                )
            )
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
    """The protocol of a client's connection until the client has asked for TLS."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client, and start the timer within which it must ask for TLS."""
        self.transport = cast("asyncio.Transport", transport)
        if not self._gate.came(self):
            refused(self, "there are too many connections: raise postgres.connections")
            self.abort()
            return
        with contextlib.suppress(OSError):  # the client may have disconnected already
            for level, option, value in _KEEPALIVE:
                transport.get_extra_info("socket").setsockopt(level, option, value)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.abort)

    def data_received(self, data: bytes) -> None:
        """Answer the client's first request; refuse it unless it asks for TLS."""
        self._head += data
        match startup_message.read(self._head):
            case Ask.MORE:
                pass
            case Ask.TLS:
                self._done()
                self.transport.pause_reading()
                self.transport.write(startup_message.YES)
                self._gate.admit(self)
            case Ask.GSS:
                self._head = b""
                self.transport.write(startup_message.NO)
            case Ask.TALK:
                refused(self, "the client did not ask for TLS")
                reason = "only TLS is answered here: set sslmode=verify-full"
                self.transport.write(
                    startup_message.refusal(startup_message.INVALID_AUTHORIZATION, reason)
                )
                self.transport.close()
            case Ask.NONSENSE:
                refused(self, f"the client began with {Ask.NONSENSE.value}")
                self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop the timer and stop counting the client, which disconnected before TLS began."""
        self._done()
        self._gate.went(self)

    def abort(self) -> None:
        """Close the client's connection immediately."""
        self.transport.abort()

    def _done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Pipe(asyncio.Protocol):
    """One of two joined connections; forwards what it receives to the other, with back-pressure."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        """Set when this connection has ended."""
        self.transport: asyncio.Transport | None = None
        self.other: Pipe | None = None
        """The joined connection; None before `join`."""
        self.early = b""
        """Bytes received before `join`."""

    def join(self, other: Pipe) -> None:
        """Forward in both directions from now on, beginning with the bytes received before."""
        self.other, other.other = other, self
        for source, target in ((self, other), (other, self)):
            target.write_out(source.early)
            source.early = b""
            if source.ended.is_set():
                target.end()

    def end(self, last: bytes = b"") -> None:
        """Write ``last``, and close the connection when everything is written."""
        self.write_out(last)
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection immediately."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport of the connection."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Forward the bytes, or keep them until `join`; abort if they are too many to keep."""
        if self.other is not None:
            self.other.write_out(data)
        elif self.ended.is_set() or len(self.early) + len(data) > EARLY_BYTES_MAX:
            # Before `connection_made`, `abort` does nothing: there is no transport. In that case
            # `join` later finds `ended` set, and closes the connection that is joined to this one.
            self.ended.set()
            self.abort()
        else:
            self.early += data

    def eof_received(self) -> bool:
        """Close the connection, because PostgreSQL's protocol has no half-closed sessions."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let the other connection write its remaining bytes, then close the other connection."""
        self.ended.set()
        if self.other is not None:
            self.other.end()

    def pause_writing(self) -> None:
        """Stop reading from the other connection, because this one cannot write fast enough."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other connection again."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def write_out(self, data: bytes) -> None:
        """Write bytes to this connection; do nothing if it is closed."""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


def refused(guest: Guest, why: str) -> None:
    """Log that a client was refused; the rate is limited, because any stranger can cause this."""
    peer = guest.transport.get_extra_info("peername")
    log.info("guest.refused", address=str(peer[0]) if peer else "", detail=why)
