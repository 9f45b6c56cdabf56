"""The WebSocket of each side, as the library `websockets` makes it, and what its ends mean."""

from __future__ import annotations

import logging

from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from midstreamer.protocol import frames
from midstreamer.transport import phrases
from midstreamer.transport.websocket.tls import HANDSHAKE_FAILED

MESSAGE_BYTES_MAX = 64 * 1024
"""Taken in one message."""
SUBPROTOCOL = Subprotocol(frames.ALPN.replace("/", "."))
"""Names the protocol and its version; HTTP allows no slash here."""
SILENT = logging.Logger("websockets", level=logging.CRITICAL + 1)  # noqa: LOG001
"""For the library: a peer could make it write lines without a bound."""

Web = ServerProtocol | ClientProtocol
"""Neither offers nor takes an extension: nothing is compressed."""


def client(place: str) -> ClientProtocol:
    """The WebSocket of a side that dialled ``host:port``."""
    return ClientProtocol(
        parse_uri(f"wss://{place}/"),
        subprotocols=[SUBPROTOCOL],
        max_size=MESSAGE_BYTES_MAX,
        logger=SILENT,
    )


def server() -> ServerProtocol:
    """The WebSocket of a side that listens."""
    return ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=MESSAGE_BYTES_MAX, logger=SILENT)


def answer(server: ServerProtocol, request: Request) -> None:
    """Answer a request for a WebSocket; not where what came behind it broke the rules already."""
    if not server.eof_sent:
        server.send_response(server.accept(request))


def refusal(response: Response) -> tuple[str, str]:
    """Code and message of an answer to the upgrade that is no link."""
    body = bytes(response.body or b"").decode(errors="replace")
    return phrases.read(body) or (HANDSHAKE_FAILED, f"HTTP {response.status_code}: {body[:200]}")
