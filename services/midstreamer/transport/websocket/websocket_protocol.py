"""WebSocket protocol objects of the library `websockets`, and how to read an HTTP refusal."""

from __future__ import annotations

import logging

from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from midstreamer.protocol import frames
from midstreamer.transport import close_reasons
from midstreamer.transport.websocket.tls import HANDSHAKE_FAILED

MESSAGE_BYTES_MAX = 64 * 1024
"""Maximum bytes accepted in one WebSocket message."""
SUBPROTOCOL = Subprotocol(frames.ALPN.replace("/", "."))
"""WebSocket subprotocol with our protocol's name and version. HTTP allows no slash here."""
SILENT = logging.Logger("websockets", level=logging.CRITICAL + 1)  # noqa: LOG001
"""Logger for the library `websockets`: it drops everything, so that a peer cannot fill our log."""

Web = ServerProtocol | ClientProtocol
"""WebSocket protocol object of one side. No side uses extensions, so nothing is compressed."""


def client(place: str) -> ClientProtocol:
    """Return the WebSocket protocol object for a client that dials ``place``, a ``host:port``."""
    return ClientProtocol(
        parse_uri(f"wss://{place}/"),
        subprotocols=[SUBPROTOCOL],
        max_size=MESSAGE_BYTES_MAX,
        logger=SILENT,
    )


def server() -> ServerProtocol:
    """Return the WebSocket protocol object for a connection that a server accepted."""
    return ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=MESSAGE_BYTES_MAX, logger=SILENT)


def answer(server: ServerProtocol, request: Request) -> None:
    """Accept an upgrade request. Do nothing if the connection has ended.

    It has ended if the client sent invalid bytes right after its request.
    """
    if not server.eof_sent:
        server.send_response(server.accept(request))


def refusal(response: Response) -> tuple[str, str]:
    """Return code and message of an HTTP response that refuses the upgrade."""
    body = bytes(response.body or b"").decode(errors="replace")
    return close_reasons.read(body) or (
        HANDSHAKE_FAILED,
        f"HTTP {response.status_code}: {body[:200]}",
    )
