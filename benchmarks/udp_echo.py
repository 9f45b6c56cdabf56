"""A bare UDP echo: the cost of a round trip without encryption, parsing and authorisation.

    python -m benchmarks.udp_echo

The process prints its port, then returns every datagram to its sender until standard input ends.
Its round trip is compared with that of the fleet.  Both round trips cross the same loopback and
wake two processes.  So if the echo is slow too, the machine is the cause, and not our code.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

DATAGRAM_BYTES = 64
"""Size of a datagram in bytes, about that of the smallest encrypted request of the fleet."""
LOST_S = 5.0
"""Seconds after which a datagram counts as lost."""


class _Returning(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


class _Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        waiting = self._waiting.pop(data, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def ask(self) -> None:
        """Send a datagram and wait for its return, for at most `LOST_S` seconds."""
        self._asked += 1
        data = self._asked.to_bytes(DATAGRAM_BYTES, "big")
        self._waiting[data] = asyncio.get_running_loop().create_future()
        self._transport.sendto(data)
        await asyncio.wait({self._waiting[data]}, timeout=LOST_S)


@contextlib.asynccontextmanager
async def beside() -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run the echo in its own process; yield a function that does one round trip."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.udp_echo"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both piped
    try:
        port = int(await process.stdout.readline())
        transport, asking = await asyncio.get_running_loop().create_datagram_endpoint(
            _Asking, remote_addr=("127.0.0.1", port)
        )
        yield asking.ask
        transport.close()
    finally:
        process.stdin.close()
        await process.wait()


async def serve() -> None:
    """Return every datagram to its sender until standard input ends."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Returning, local_addr=("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    transport.close()


if __name__ == "__main__":
    asyncio.run(serve())
