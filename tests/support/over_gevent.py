"""A carrier that only dials; its links run on gevent in a separate process."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from midstreamer.domain import errors, identity
from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Frame
from midstreamer.transport.carrier import Limits

WITHIN_S = 30.0
FRAME_BYTES_MAX = 16 * 1024 * 1024


@contextmanager
def end(folder: Path) -> Iterator[Path]:
    """A running `gevent_process` process; yields the path of its Unix socket."""
    place = folder / "gevent.sock"
    process = subprocess.Popen([sys.executable, "-m", "tests.support.gevent_process", str(place)])
    try:
        until_s = time.monotonic() + WITHIN_S
        while not _listens(place):
            assert process.poll() is None, "the gevent process ended"
            assert time.monotonic() < until_s, "the gevent process never listened"
            time.sleep(0.01)
        yield place
    finally:
        process.kill()
        process.wait()


def _listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return place.exists() and probe.connect_ex(str(place)) == 0


@dataclasses.dataclass
class GeventCarrier:
    """A carrier that dials with the code of the users of a load test; it cannot serve."""

    place: Path
    directory: Path
    me: Identity
    limits: Limits

    async def dial(self, address: str, *, expect: Kind) -> GeventEnd:
        answer = await _later(
            self.place,
            do="dial", directory=str(self.directory), domain=self.me.trust_domain,
            kind=self.me.kind, id=self.me.id, limits=dataclasses.asdict(self.limits),
            address=address, expect=expect,
        )  # fmt: skip
        domain, kind, label = answer["peer"]
        return GeventEnd(self.place, answer["link"], identity.make(domain, Kind(kind), label))


@dataclasses.dataclass
class GeventEnd:
    """A link that runs in the gevent process, with the interface of `Link`."""

    place: Path
    number: int
    peer: Identity

    def send(self, frame: Frame, *, bulk: bool = False, flush: bool = False) -> None:
        body = codec.encode(frame, frame_bytes_max=FRAME_BYTES_MAX)[codec.HEAD_BYTES :]
        line = _line(do="send", link=self.number, frame=base64.b64encode(body).decode(), bulk=bulk)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.place))
            asking.sendall(line)
            with asking.makefile("r", encoding="utf-8") as lines:
                _read(lines.readline())

    async def receive(self) -> Frame:
        answer = await _later(self.place, do="receive", link=self.number)
        return codec.decode(base64.b64decode(answer["frame"]))

    def deliver_to(self, _take: object) -> None:
        pytest.skip("a user of a load test reads frames one by one, and not with a callback")

    async def drained(self) -> None:
        await _later(self.place, do="drained", link=self.number)

    async def close(self, code: str = "", message: str = "") -> None:
        await _later(self.place, do="close", link=self.number, code=code, message=message)


def _line(**asked: Any) -> bytes:
    return (json.dumps(asked) + "\n").encode()


async def _later(place: Path, **asked: Any) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(place), limit=FRAME_BYTES_MAX)
    try:
        writer.write(_line(**asked))
        return _read((await reader.readline()).decode())
    finally:
        writer.close()
        await writer.wait_closed()


def _read(line: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(line)
    if "error" not in answer:
        return answer
    kind: type[MidstreamerError] = getattr(errors, answer["error"])
    if issubclass(kind, Refused):
        raise Refused(answer["message"], reason=answer["reason"])
    raise kind(answer["message"], retry_after_s=answer["retry_after_s"])
