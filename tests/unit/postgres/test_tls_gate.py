"""The TLS gate in front of PostgreSQL, with clients that break the protocol."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

from midstreamer.domain import identity
from midstreamer.postgres.tls_gate import EARLY_BYTES_MAX, Gate, Pipe
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security.authority import establish
from midstreamer.security.credentials import Credentials

ASKS_FOR_TLS = struct.pack("!ii", 8, 80877103)
RESETS = struct.pack("ii", 1, 0)


def credentials() -> Credentials:
    now_s = time.time()
    authority = establish("test.local", now_s=now_s)
    me = identity.parse("spiffe://test.local/postgres/p")
    issued = authority.certify(me, now_s=now_s, dns_names=["localhost"])
    return Credentials(me, issued.certificate, (), issued.key, (authority.certificate,))


class Counted(Gate):
    """A gate that counts the clients that it serves."""

    attended = begun = 0

    async def _serve(self, guest: object) -> None:
        self.attended, self.begun = self.attended + 1, self.begun + 1
        try:
            await super()._serve(guest)  # type: ignore[arg-type]
        finally:
            self.attended -= 1


async def test_a_client_that_resets_once_it_asked_for_tls_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    shown = credentials()
    async with Lifecycle() as life:
        gate = Counted(tmp_path / "socket", lambda: shown, life, guests_max=4)
        async with gate.opened("127.0.0.1", 0) as place:
            with socket.create_connection(place) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
                client.sendall(ASKS_FOR_TLS)
            # The event loop has not run since the client connected. So the gate reads the request
            # only after the client has reset the connection.

            async with asyncio.timeout(2.0):
                while not gate.begun or gate.attended:  # noqa: ASYNC110 - sets no event
                    await asyncio.sleep(0.01)


class Transport(asyncio.Transport):
    """A transport that keeps the bytes written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def joined(*early: bytes) -> Transport:
    """Join the connection from a client and the connection to the server.

    The client sends the bytes ``early`` before the two connections are joined. Return the transport
    of the connection to the server.
    """
    near, far, behind = Pipe(), Pipe(), Transport()
    for piece in early:
        near.data_received(piece)
    near.connection_made(Transport())
    far.connection_made(behind)
    near.join(far)
    return behind


def test_what_came_with_the_end_of_the_handshake_is_passed_on() -> None:
    behind = joined(b"a", b"b")
    assert (behind.written, behind.closed) == (b"ab", False)


def test_too_many_early_bytes_close_the_connection() -> None:
    behind = joined(bytes(EARLY_BYTES_MAX + 1), b"as if nothing had come before")
    assert (behind.written, behind.closed) == (b"", True)
