"""A fuzz target: the HTTP and WebSocket bytes that an allowed peer sends inside TLS.

Unless the first byte of an input is 0, the target first reads a correct upgrade request. Then it
reads the rest of the input in pieces of `PIECE_BYTES`. An input may end the connection, but must
not raise an exception. In a server, an exception here is a bug: the wire logs it as an unexpected
error and closes the connection.
"""

from __future__ import annotations

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from midstreamer.transport.websocket import websocket_protocol

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: " + websocket_protocol.SUBPROTOCOL.encode() + b"\r\n\r\n"
)
PIECE_BYTES = 50


def read_words(data: bytes) -> None:
    """Read a client's bytes in the way in which a server's `transport.websocket.wire` does."""
    server = websocket_protocol.server()
    if data[:1] != b"\x00":
        _read(server, REQUEST)
    for at in range(1, len(data), PIECE_BYTES):
        _read(server, data[at : at + PIECE_BYTES])
        if server.close_expected() or server.state is State.CLOSED:
            return


def _read(server: ServerProtocol, data: bytes) -> None:
    server.receive_data(data)
    for event in server.events_received():
        if isinstance(event, Request):
            websocket_protocol.answer(server, event)
        elif isinstance(event, Frame) and len(event.data) > websocket_protocol.MESSAGE_BYTES_MAX:
            raise AssertionError("a message is longer than its bound")
    server.data_to_send()


def conversations() -> list[bytes]:
    """Return valid inputs, as honest clients send them; the fuzzer starts from these inputs."""
    message = b"\x82\x85\x00\x00\x00\x00\x00abcd"
    ping, close = b"\x89\x80\x00\x00\x00\x00", b"\x88\x82\x00\x00\x00\x00\x03\xe8"
    return [b"\x01" + message + ping + message + close, b"\x00" + REQUEST + message, b"\x00GET /"]
