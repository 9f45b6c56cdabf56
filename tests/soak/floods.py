"""The floods: each repeats one hostile step, in a process that uses at most half a core.

    python -m tests.soak.floods KIND ADDRESS CERTIFICATES SECONDS

`Pace` sleeps whenever this process has used more than its share of CPU time. So a flood shows what
an attacker with half a core can do, whatever machine it runs on. The last line of the output is
JSON: the number of steps and the share of a core that was used.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aioquic import tls

from midstreamer.cli import peer_credentials
from midstreamer.cli.local_fleet import TRUST_DOMAIN
from midstreamer.domain.identity import Identity
from midstreamer.domain.series import Column, Window
from midstreamer.domain.specification import Specification
from midstreamer.protocol import codec, frames
from midstreamer.protocol.connection import BULK_STREAM
from midstreamer.security import authority
from midstreamer.security.credentials import Credentials
from midstreamer.security.files import CertificateManager
from tests.support import hostile
from tests.support.hostile import Intruder, QuicIntruder

CORE_SHARE = 0.5
LINKS = 16
NESTED = 5000
FAR_CRYPTO, FAR_STREAM = 500_000, 8_000_000
"""Offsets in bytes."""
ENDS_S = 0.2
"""Maximum seconds for which a flood waits until the server closes a connection."""
IDENTITY = "client/flood"
AHEAD = 1_000_000_000
"""The feed position for which the Matches of the flood `places` wait; no run reaches it."""


class Over(Exception):
    """Raised when the time for the flood is over."""


class Pace:
    """Keeps this process below its share of a core, and ends the flood in time."""

    def __init__(self, seconds: float, share: float = CORE_SHARE) -> None:
        self._share = share
        self._began_s, self._used_s = time.monotonic(), time.process_time()
        self.until_s = self._began_s + seconds
        self.steps = 0

    async def step(self) -> None:
        """Count a step; sleep while this process is above its share."""
        self.steps += 1
        if time.monotonic() >= self.until_s:
            raise Over
        used_s = time.process_time() - self._used_s
        rest_s = used_s / self._share - (time.monotonic() - self._began_s)
        await asyncio.sleep(max(0.0, rest_s))

    @property
    def core_share(self) -> float:
        """Share of one core used so far."""
        elapsed_s = time.monotonic() - self._began_s
        return (time.process_time() - self._used_s) / max(elapsed_s, 1e-9)


@dataclasses.dataclass(frozen=True)
class Ground:
    """The server that is flooded, and the certificates to use."""

    address: str
    listed: Credentials
    stranger: Credentials

    @property
    def me(self) -> Identity:
        """The identity of the allowed client that floods."""
        return self.listed.identity

    @contextlib.asynccontextmanager
    async def intruder(self) -> AsyncIterator[QuicIntruder]:
        """A link of the allowed client, after the protocol handshake."""
        async with hostile.quic_intruder(self.address, self.listed) as opened:
            await opened.greet(self.me)
            yield opened

    async def links(self, stack: contextlib.AsyncExitStack) -> list[QuicIntruder]:
        """Open all links that one identity may have."""
        return [await stack.enter_async_context(self.intruder()) for _ in range(LINKS)]


Flood = Callable[[Ground, Pace], Awaitable[None]]


async def garbage(ground: Ground, pace: Pace) -> None:
    """Send datagrams of random bytes."""
    host, _, port = ground.address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        while True:
            with contextlib.suppress(BlockingIOError):
                sender.sendto(os.urandom(random.randrange(1, 1400)), (host, int(port)))
            await pace.step()


async def hellos(ground: Ground, pace: Pace) -> None:
    """Send the first packets of honest clients, and nothing more."""
    while True:
        async with hostile.quic_intruder(ground.address, None, begin=False) as sender:
            sender.begin().flush()
            sender.vanish()
        await pace.step()


async def strangers(ground: Ground, pace: Pace) -> None:
    """Run whole TLS handshakes with a certificate of another authority."""
    while True:
        async with hostile.quic_intruder(ground.address, ground.stranger) as sender:
            await asyncio.wait({sender.ended}, timeout=ENDS_S)
        await pace.step()


async def far_crypto(ground: Ground, pace: Pace) -> None:
    """Open connections; on each send one CRYPTO frame at a far offset."""
    while True:
        async with hostile.quic_intruder(ground.address, None, begin=False) as sender:
            sender.begin()
            sender.quic.datagrams_to_send(now=time.monotonic())
            sender.inject(hostile.crypto_frame(FAR_CRYPTO, b"far"), epoch=tls.Epoch.INITIAL)
            sender.vanish()
        await pace.step()


async def nested(ground: Ground, pace: Pace) -> None:
    """Send frames nested too deep, each on a new link of an allowed client."""
    while True:
        async with ground.intruder() as sender:
            sender.write(hostile.nested(NESTED))
            await asyncio.wait({sender.ended}, timeout=ENDS_S)
        await pace.step()


async def far_stream(ground: Ground, pace: Pace) -> None:
    """Send one byte at a far offset of a stream, each time on a new link of an allowed client."""
    while True:
        async with ground.intruder() as sender:
            sender.inject(hostile.stream_frame(BULK_STREAM, FAR_STREAM, b"x"))
            await asyncio.sleep(0.05)
        await pace.step()


async def malformed(ground: Ground, pace: Pace) -> None:
    """Send bodies that are not frames, each on a new link of an allowed client."""
    while True:
        async with ground.intruder() as sender:
            sender.write(hostile.framed(os.urandom(256)))
            await asyncio.wait({sender.ended}, timeout=ENDS_S)
        await pace.step()


async def unfinished(ground: Ground, pace: Pace) -> None:
    """Begin a frame of 4 MB on each of sixteen links; then add one byte to each frame in turn."""
    async with contextlib.AsyncExitStack() as stack:
        links = await ground.links(stack)
        for link in links:
            link.write((4_000_000).to_bytes(codec.HEAD_BYTES, "big"))
        while True:
            for at, link in enumerate(links):
                if link.ended.done():
                    links[at] = await stack.enter_async_context(ground.intruder())
                    links[at].write((4_000_000).to_bytes(codec.HEAD_BYTES, "big"))
                links[at].write(b"x")
                await pace.step()


async def columns(ground: Ground, pace: Pace) -> None:
    """Send Appends, each with a hundred thousand empty columns."""
    empty = [{"series": f"flood/{at}", "times": b"", "values": b""} for at in range(100_000)]
    data = hostile.a_frame("Append", request=1, columns=empty)
    await _asked(ground, pace, lambda _: data)


async def series(ground: Ground, pace: Pace) -> None:
    """Send Appends, each with 200 new series."""

    def append(number: int) -> bytes:
        times = np.arange(2, dtype="<i8")
        values = np.ones(2).tobytes()
        several = [Column(f"flood/s{number}-{at}", times.tobytes(), values) for at in range(200)]
        return codec.encode(frames.Append(request=number, columns=tuple(several)))

    await _asked(ground, pace, append)


async def streams(ground: Ground, pace: Pace) -> None:
    """Send Matches with a new specification each, so that each stored decision begins a stream."""
    times = np.arange(200, dtype="<i8") * 1000
    values = np.random.default_rng(1).standard_normal(200).cumsum() + 100.0
    column = Column("flood/one", times.tobytes(), values.tobytes())

    def match(number: int) -> bytes:
        if number == 1:
            return codec.encode(frames.Append(request=1, columns=(column,)))
        wanted = Specification(
            "flood", window=16, horizon=2, neighbours=10, grid=1, target=0.5 + number * 1e-6
        )
        window = Window("flood/one", int(times[-1]), values[-16:].tobytes())
        return codec.encode(frames.Match(request=number, specification=wanted, windows=(window,)))

    await _asked(ground, pace, match)


async def places(ground: Ground, pace: Pace) -> None:
    """Send Matches on sixteen links; each waits up to 300 s for the feed position `AHEAD`."""
    wanted = Specification("flood", window=16, horizon=2, grid=1)
    window = Window("", 0, np.arange(1, 17, dtype="<f8").tobytes())
    async with contextlib.AsyncExitStack() as stack:
        links = await ground.links(stack)
        number = 0
        while True:
            for at, link in enumerate(links):
                if link.ended.done():
                    links[at] = await stack.enter_async_context(ground.intruder())
                number += 1
                request = frames.Match(
                    request=number,
                    budget_s=300.0,
                    specification=wanted,
                    windows=(window,),
                    at_least=AHEAD,
                    record=False,
                )
                links[at].write(codec.encode(request))
                await pace.step()


async def _asked(ground: Ground, pace: Pace, request: Callable[[int], bytes]) -> None:
    """Send requests one by one, each after the answer or refusal of the previous request."""
    number = 0
    while True:
        async with ground.intruder() as sender:
            while not sender.ended.done():
                number += 1
                sender.write(request(number), stream=BULK_STREAM)
                await _answered(sender)
                await pace.step()
        await pace.step()


async def _answered(sender: Intruder) -> None:
    answer = asyncio.ensure_future(sender.answer())
    either: set[asyncio.Future[Any]] = {answer, sender.ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    answer.cancel()


FLOODS: dict[str, Flood] = {
    "garbage": garbage,
    "hellos": hellos,
    "strangers": strangers,
    "far-crypto": far_crypto,
    "nested": nested,
    "far-stream": far_stream,
    "malformed": malformed,
    "unfinished": unfinished,
    "columns": columns,
    "series": series,
    "streams": streams,
    "places": places,
}


async def _flood(kind: str, ground: Ground, seconds: float) -> Pace:
    pace = Pace(seconds)
    while True:
        try:
            async with asyncio.timeout(pace.until_s - time.monotonic()):
                await FLOODS[kind](ground, pace)
        except Over:
            return pace
        except (TimeoutError, msgspec.MsgspecError, OSError):
            if time.monotonic() >= pace.until_s:
                # The time of the flood is over, so the flood ends. Before that time, an error only
                # means that an answer was missing or unreadable: the loop then begins again.
                return pace


def main(kind: str, address: str, directory: Path, seconds: float) -> None:
    """Flood for some seconds, and print the steps and the share of a core used."""
    me = peer_credentials.named(IDENTITY, TRUST_DOMAIN)
    manager = CertificateManager(directory, me)
    manager.load_or_generate()
    other = authority.establish(me.trust_domain, now_s=time.time(), days=1)
    issued = other.certify(me, now_s=time.time(), days=1)
    stranger = Credentials(me, issued.certificate, (), issued.key, manager.current.anchors)
    ground = Ground(address, manager.current, stranger)
    pace = asyncio.run(_flood(kind, ground, seconds))
    print(json.dumps({"steps": pace.steps, "core": round(pace.core_share, 3)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
