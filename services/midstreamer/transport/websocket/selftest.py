"""Self-test of the WebSocket carrier: TLS and our check of certificates, in about 10 ms."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cryptography.x509 import Certificate

from midstreamer.domain.errors import Refused
from midstreamer.security import certificate_chain
from midstreamer.security.certificate_chain import Role
from midstreamer.security.credentials import Credentials
from midstreamer.transport import refusal_self_test
from midstreamer.transport.refusal_self_test import Met
from midstreamer.transport.websocket import tls
from midstreamer.transport.websocket.tls import Tls

_ROUNDS = 6
_done: list[bool] = []


def self_test() -> None:
    """Raise SelfTestFailed unless certificates are enforced. It runs once per process."""
    if not _done:
        refusal_self_test.prove(_meet)
        _done.append(True)


def _meet(client: Credentials | None, server: Credentials) -> Met:
    near = Tls(tls.context(client, server_side=False), server_side=False)
    far = Tls(tls.context(server, server_side=True), server_side=True)
    try:
        near.start()
        for _ in range(_ROUNDS):
            far.receive(near.take())
            near.receive(far.take())
    except Refused:
        return Met(server_was_reached=False, client_was_served=False)
    trusted = client.anchors if client else server.anchors
    return Met(_takes(far, server.anchors, Role.DIALS), _takes(near, trusted, Role.SERVES))


def _takes(end: Tls, anchors: Sequence[Certificate], role: Role) -> bool:
    try:
        certificate_chain.identify(end.presented, anchors, role, time.time())
    except Refused:
        return False
    return end.ready
