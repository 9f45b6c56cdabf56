"""WebSocket over TLS 1.3 with mutual authentication, for networks that drop UDP.

Python's `ssl` does TLS and the library `websockets` the framing; both are driven without their
own input and output, so that what a peer can make us hold is bounded here (`wire`).  `ssl` asks
for a certificate and proves its possession; who its owner is, `transport.trust` judges, as on
QUIC, before a byte of HTTP is read (`server`, `dialled`).
"""

from midstreamer.transport.websocket.carrier import WssCarrier
from midstreamer.transport.websocket.selftest import self_test

__all__ = ["WssCarrier", "self_test"]
