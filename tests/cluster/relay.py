"""The way to the API server from outside the cluster's network namespace.

Started inside the namespace with a listening socket from outside it: a socket stays in the
namespace in which it was made.  The same port is opened inside too, so that one kubeconfig is
right on both sides.  Carries TCP to the API server and nothing else; this machine only.

    python -m tests.cluster.relay FILE_DESCRIPTOR
"""

from __future__ import annotations

import asyncio
import socket
import sys

from tests.cluster import names

CHUNK_BYTES = 65_536


async def serve(outside: socket.socket) -> None:
    """Carry connections until the process is ended."""
    port = outside.getsockname()[1]
    servers = [
        await asyncio.start_server(carry, sock=outside),
        await asyncio.start_server(carry, "127.0.0.1", port),
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection until both ends have said all."""
    try:
        far_reader, far_writer = await asyncio.open_connection(names.API_ADDRESS, names.API_PORT)
    except OSError:
        writer.close()  # the API server is away; the client tries again
        return
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, far_writer))
            both.create_task(_copy(far_reader, writer))
    except* OSError:
        pass  # one side broke off: the other learns it by the close
    finally:
        writer.close()
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def listen(port: int = 0) -> socket.socket:
    """A listening socket on this namespace's loopback; without a port on a free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
