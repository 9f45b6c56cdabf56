"""The carrier for networks that drop UDP: WebSocket over TLS 1.3 with mutual authentication.

Python's `ssl` does TLS, and the library `websockets` does the framing.  Neither touches the socket.
This package does all I/O, so that it can limit how much memory of this process a peer can fill
(`transport.websocket.wire`).
`ssl` demands a certificate and checks that the peer owns its key.  `transport.trust` then verifies
and admits the peer, as on QUIC, before a byte of HTTP is read (`server`, `client_connection`).
"""

from midstreamer.transport.websocket.carrier import WssCarrier
from midstreamer.transport.websocket.selftest import self_test

__all__ = ["WssCarrier", "self_test"]
