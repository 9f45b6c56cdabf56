"""Drives clients on other QUIC libraries, and runs a fleet on real QUIC for them to connect to."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from midstreamer.agent import searching
from midstreamer.agent.config import AgentSettings
from midstreamer.agent.service import AgentService
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import BULK_STREAM
from midstreamer.protocol.frames import Frame
from midstreamer.security import files
from midstreamer.security.credentials import Credentials
from midstreamer.store.memory import MemoryStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.transport.memory import MemoryNetwork
from tests.support.fleet import Fleet
from tests.support.identity_builders import Installation, who

ANY_PORT = "127.0.0.1:0"
WITHIN_S = 30.0
LINE_BYTES_MAX = 64 * 1024 * 1024
"""Maximum length of a line that a client writes, in bytes: a 4 MB frame is about 8 MB of JSON."""
HEX = "$hex"


@dataclass(frozen=True)
class Reply:
    """A client's report about one command."""

    ok: bool
    fields: dict[str, Any]

    @property
    def code(self) -> str:
        """The code of the server's refusal, which is the first word of the reported reason."""
        return str(self.fields.get("reason", "")).partition(": ")[0]

    @property
    def frame(self) -> dict[str, Any]:
        """The frame that the client received; the test fails when the command failed."""
        assert self.ok, self.fields
        return dict(self.fields["frame"])

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class ForeignClient:
    """One client process on another QUIC library; it carries out one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, command: str, **fields: object) -> Reply:
        """Send a command to the client process and return its report."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **fields}).encode() + b"\n")
        await self._process.stdin.drain()
        line = await asyncio.wait_for(self._process.stdout.readline(), WITHIN_S)
        answer = json.loads(line)
        return Reply(answer.pop("ok"), answer)

    async def write(self, data: bytes, *, stream: int = 0) -> Reply:
        """Send these bytes unchanged on a stream."""
        return await self.do("write", stream=stream, hex=data.hex())

    async def ask(self, frame: Frame, *, pad: int = 0, stream: int = BULK_STREAM) -> Reply:
        """Let the client encode and send a frame, and return the answer to the frame."""
        return await self.do("ask", frame=as_json(frame), pad=pad, stream=stream, seconds=WITHIN_S)

    async def greet(self, me: Identity) -> dict[str, Any]:
        """Complete the protocol handshake; return the acknowledgement."""
        hello = frames.AgentHandshake(me.id, me.kind, frames.VERSION, incarnation="foreign")
        await self.do("ask", frame=as_json(hello), stream=0)
        acknowledged = (await self.do("receive")).frame
        await self.write(codec.OPENING, stream=BULK_STREAM)
        return acknowledged


@asynccontextmanager
async def running(binary: Path) -> AsyncIterator[ForeignClient]:
    """A process with a client on another QUIC library; it is killed when the block ends."""
    pipe = asyncio.subprocess.PIPE
    quiet = {**os.environ, "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING": "true"}
    process = await asyncio.create_subprocess_exec(
        binary, stdin=pipe, stdout=pipe, limit=LINE_BYTES_MAX, env=quiet
    )
    try:
        yield ForeignClient(process)
    finally:
        process.kill()
        await process.wait()


def as_json(value: object) -> Any:
    """Convert a frame to the JSON that clients take: bytes become hexadecimal digits."""
    return json.loads(json.dumps(_plain(msgspec.msgpack.decode(msgspec.msgpack.encode(value)))))


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return {HEX: value.hex()}
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


def from_json(value: dict[str, Any], kind: type[Frame]) -> Frame:
    """Convert the JSON of a received frame to our frame class ``kind``."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(_packed(value)), type=kind)


def _packed(value: Any) -> Any:
    match value:
        case {"$hex": digits}:
            return bytes.fromhex(digits)
        case {"$float": written}:
            return float(written)
        case dict():
            return {key: _packed(item) for key, item in value.items()}
        case list():
            return [_packed(item) for item in value]
    return value


@dataclass
class Ports:
    """Builds `connect` commands for foreign clients, and writes the certificate files for them."""

    place: Installation
    directory: Path
    _written: int = 0

    def connecting(self, address: str, holding: Credentials | None) -> dict[str, object]:
        """Return the fields of a `connect` command to a coordinator."""
        pem = self._write(holding) if holding else ""
        return {
            "address": address,
            "certificate": pem,
            "key": pem,
            "authority": str(files.trust_path(self.place.directory)),
            "server": who(Kind.COORDINATOR, "c1").uri,
            "alpn": frames.ALPN,
        }

    def _write(self, holding: Credentials) -> str:
        self._written += 1
        path = self.directory / f"client-{self._written}.pem"
        chain = (holding.certificate, *holding.intermediates)
        key = holding.key.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(key + b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        return str(path)


@dataclass
class QuicFleet(Fleet):
    """A fleet in this process whose services use real QUIC."""

    place: Installation = field(kw_only=True)
    sync: str = ""

    async def start_sync(self) -> None:
        """Start sync on a free port."""
        config = SyncSettings(listen=ANY_PORT, shard_points=self.shard_points, lease_s=self.lease_s)
        service = SyncService(config, self.place.carrier(who(Kind.SYNC, "s1")), self.store)
        await self._start("s1", service)
        self.sync = service.address

    async def start_agent(self, name: str, *, engine: str = "auto", searches_max: int = 64) -> None:
        """Start an agent, which finds the coordinators by itself."""
        config = AgentSettings(
            id=name,
            sync=self.sync,
            engine=engine,
            threads=1,
            heartbeat_s=0.1,
            searches_max=searches_max,
        )
        me = self.place.carrier(who(Kind.AGENT, name))
        await self._start(name, AgentService(config, me))

    async def start_coordinator(self, name: str, *, spool_dir: Path | None = None) -> None:
        """Start a coordinator on a free port."""
        config = CoordinatorSettings(
            id=name, listen=ANY_PORT, sync=self.sync, spool_dir=spool_dir, patience_s=2.0
        )
        me = self.place.carrier(who(Kind.COORDINATOR, name))
        await self._start(name, CoordinatorService(config, me))


@asynccontextmanager
async def quic_fleet(place: Installation) -> AsyncIterator[QuicFleet]:
    """A ready fleet of one coordinator and two agents on real QUIC."""
    searching.warm_up("auto")  # this may compile kernels, so it runs before the services start
    fleet = QuicFleet(MemoryNetwork(), MemoryStore(), 2048, 2.0, place=place)
    await fleet.start_sync()
    await fleet.start_coordinator("c1")
    for name in ("a1", "a2"):
        await fleet.start_agent(name)
    try:
        await fleet.settled(agents=2)
        yield fleet
    finally:
        for name in reversed(list(fleet.tasks)):
            await fleet.stop(name)
