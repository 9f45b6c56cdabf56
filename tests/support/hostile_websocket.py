"""A hostile client over WebSocket: Python's TLS, with hand-written HTTP and messages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from midstreamer.domain.identity import Identity
from midstreamer.protocol.connection import CONTROL_STREAM
from midstreamer.security.credentials import Credentials
from midstreamer.transport import close_reasons
from midstreamer.transport.address import parse
from midstreamer.transport.carrier import Limits
from midstreamer.transport.websocket.websocket_protocol import SUBPROTOCOL
from tests.support.hostile import End, Ground, Intruder, memory_ground, quic_ground
from tests.support.identity_builders import Installation, credentials

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CHUNK_BYTES = 16 * 1024


def a_context(holding: Credentials | None) -> ssl.SSLContext:
    """A TLS context that accepts every server and sends the certificate in ``holding``, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if holding is not None:
        with tempfile.NamedTemporaryFile() as file:
            key = holding.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            chain = (holding.certificate, *holding.intermediates)
            pem = (each.public_bytes(serialization.Encoding.PEM) for each in chain)
            file.write(key + b"".join(pem))
            file.flush()
            context.load_cert_chain(file.name)
    return context


def message(kind: int, data: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """Return one WebSocket frame (RFC 6455), masked as a client sends it."""
    length = len(data)
    head = bytes((kind | (0x80 if fin else 0),))
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head += bytes((length | mask_bit,))
    elif length < 1 << 16:
        head += bytes((126 | mask_bit,)) + struct.pack(">H", length)
    else:
        head += bytes((127 | mask_bit,)) + struct.pack(">Q", length)
    # Masking with zeros leaves the data unchanged.
    return head + (bytes(4) if masked else b"") + data


def upgrade(host: str, *, subprotocol: str = SUBPROTOCOL) -> bytes:
    """Return the HTTP request with which a client opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ).encode()


class WssIntruder(Intruder):
    """Sends any bytes over TLS, and reads the WebSocket messages of the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self.writer = writer
        self.status = 0
        """HTTP status of the answer to the upgrade; 0 before the answer."""
        self.pongs = 0
        self._reader = reader
        self._reading = asyncio.get_running_loop().create_task(self._read())

    def raw(self, data: bytes) -> None:
        """Send any bytes inside TLS."""
        self.writer.write(data)

    def write(self, data: bytes, *, stream: int = CONTROL_STREAM, end: bool = False) -> None:
        """Send bytes of a stream in binary messages.

        ``end`` is ignored, because the WebSocket carrier cannot end one stream.
        """
        for at in range(0, len(data), CHUNK_BYTES):
            self.raw(message(BINARY, bytes((stream,)) + data[at : at + CHUNK_BYTES]))

    async def leave(self) -> None:
        """Close the socket without a WebSocket close frame."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self.writer.transport.abort()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()

    async def _read(self) -> None:
        try:
            if await self._answered():
                while await self._frame():
                    pass
            self._over(End("", "closed"))
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            self._over(End("", f"{getattr(error, 'reason', '') or error}"))

    async def _answered(self) -> bool:
        head = await self._reader.readuntil(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1])
        if self.status != 101:
            body = (await self._reader.read(1 << 16)).decode()
            self._over(End(*(close_reasons.read(body) or ("", body))))
        return self.status == 101

    async def _frame(self) -> bool:
        kind, length = await self._reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
        data = await self._reader.readexactly(length)
        if kind & 15 == BINARY:
            self._came(data[0], data[1:])
        elif kind & 15 == PONG:
            self.pongs += 1
        elif kind & 15 == CLOSE:
            reason = data[2:].decode()
            self._over(End(*(close_reasons.read(reason) or ("", reason))))
        return kind & 15 != CLOSE


async def tls_to(
    address: str, holding: Credentials | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TLS connection and send nothing on it."""
    host, _, port = parse(address).place.rpartition(":")
    return await asyncio.open_connection(host, int(port), ssl=a_context(holding))


@asynccontextmanager
async def wss_intruder(
    address: str, holding: Credentials | None, *, first: bytes | None = None
) -> AsyncIterator[WssIntruder]:
    """A client that has completed its TLS handshake and has sent its first bytes.

    ``first`` gives these bytes; the default is the request that opens a WebSocket.
    """
    intruder = WssIntruder(*await tls_to(address, holding))
    intruder.raw(upgrade(parse(address).place) if first is None else first)
    try:
        yield intruder
    finally:
        await intruder.leave()


def wss_ground(directory: Path, limits: Limits | None = None) -> Ground:
    """The test environment on WebSocket, with real sockets and certificates."""
    place = Installation(directory / "certs", limits or Limits(), scheme="wss")

    def intruder(address: str, me: Identity) -> AbstractAsyncContextManager[Intruder]:
        return wss_intruder(address, credentials(place.authority, me))

    return Ground(place.carrier, "wss://127.0.0.1:0", intruder)


GROUNDS: dict[str, Callable[[Path, Limits | None], Ground]] = {
    "memory": memory_ground,
    "quic": quic_ground,
    "wss": wss_ground,
}
"""The test environment of each carrier, by name, for ``@pytest.fixture(params=GROUNDS)``."""
