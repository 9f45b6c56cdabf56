"""Forward TCP connections from outside the cluster's network namespace to the API server.

The process runs inside the namespace and gets a listening socket that was made outside, because a
socket stays in the namespace in which it was made.  The process listens on the same port inside
the namespace too, so that one kubeconfig works on both sides.  It accepts connections from this
machine only.

    python -m tests.cluster.api_server_relay FILE_DESCRIPTOR
"""

from __future__ import annotations

import asyncio
import socket
import sys

from tests.cluster import names

CHUNK_BYTES = 65_536


async def serve(outside: socket.socket) -> None:
    """Forward connections until the process ends; `outside` is the listening socket."""
    port = outside.getsockname()[1]
    servers = [
        await asyncio.start_server(carry, sock=outside),
        await asyncio.start_server(carry, "127.0.0.1", port),
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward one connection until both ends have closed."""
    try:
        far_reader, far_writer = await asyncio.open_connection(names.API_ADDRESS, names.API_PORT)
    except OSError:
        writer.close()  # the API server is down; clients retry
        return
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, far_writer))
            both.create_task(_copy(far_reader, writer))
    except* OSError:
        pass  # one side failed; both are closed below
    finally:
        writer.close()
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def listen(port: int = 0) -> socket.socket:
    """Return a listening socket on 127.0.0.1 of this namespace; port 0 means any free port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
