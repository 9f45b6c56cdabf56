"""Self-test of the QUIC carrier: two connections exchange datagrams in memory, in about 20 ms.

It fails if a change of aioquic makes one of the hooks in `aioquic_internals` ineffective.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, QuicEvent, StreamDataReceived
from cryptography.x509 import Certificate

from midstreamer.security import certificate_chain
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.security.credentials import Credentials
from midstreamer.transport import refusal_self_test
from midstreamer.transport.aioquic import aioquic_internals, mutual_tls
from midstreamer.transport.carrier import Limits
from midstreamer.transport.refusal_self_test import Met

_ROUNDS = 12
_NEAR, _FAR = ("192.0.2.1", 1), ("192.0.2.2", 2)
_done: list[bool] = []


@dataclass(frozen=True)
class _Outcome:
    """The events that aioquic reported to each side."""

    client_saw: list[QuicEvent]
    server_saw: list[QuicEvent]

    @property
    def server_was_reached(self) -> bool:
        return any(isinstance(e, HandshakeCompleted | StreamDataReceived) for e in self.server_saw)

    @property
    def client_was_served(self) -> bool:
        return any(isinstance(event, HandshakeCompleted) for event in self.client_saw)


def self_test() -> None:
    """Raise SelfTestFailed if a QUIC connection accepts a peer without a valid certificate.

    After the test has passed once, further calls in the same process do nothing.
    """
    if not _done:
        aioquic_internals.require_version()
        refusal_self_test.prove(_met)
        _done.append(True)


def _met(client: Credentials | None, server: Credentials) -> Met:
    outcome = _meet(client, server)
    return Met(outcome.server_was_reached, outcome.client_was_served)


def _meet(client: Credentials | None, server: Credentials) -> _Outcome:
    """Connect a client and a server, exchange datagrams for some rounds, and return the events."""
    limits = Limits()
    near = QuicConnection(configuration=mutual_tls.configuration(client, limits, is_client=True))
    mutual_tls.enforce(near, _judge(server.anchors, Role.SERVES))
    near.connect(_FAR, now=time.monotonic())
    far = QuicConnection(
        configuration=mutual_tls.configuration(server, limits, is_client=False),
        original_destination_connection_id=near.original_destination_connection_id,
    )
    mutual_tls.enforce(far, _judge(server.anchors, Role.DIALS))
    near.send_stream_data(near.get_next_available_stream_id(), b"let me in")
    for _ in range(_ROUNDS):
        now = time.monotonic()
        for data, _ in near.datagrams_to_send(now=now):
            far.receive_datagram(data, _NEAR, now=now)
        for data, _ in far.datagrams_to_send(now=now):
            near.receive_datagram(data, _FAR, now=now)
    return _Outcome(_events(near), _events(far))


def _judge(anchors: tuple[Certificate, ...], role: Role) -> mutual_tls.Judge:
    def judge(presented: Presented) -> None:
        certificate_chain.identify(presented, anchors, role, time.time())

    return judge


def _events(connection: QuicConnection) -> list[QuicEvent]:
    seen = []
    while (event := connection.next_event()) is not None:
        seen.append(event)
    return seen
