"""A client or server with a weak key or signature is refused, and the reason is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer.security.credentials import Credentials
from midstreamer.telemetry import metrics
from midstreamer.transport.aioquic import mutual_tls
from midstreamer.transport.carrier import Limits, Link
from tests.support.identity_builders import (
    Installation,
    an_authority,
    credentials,
    stranger_key,
    who,
    with_key,
)

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

ANY_PORT = "127.0.0.1:0"
NEAR, FAR = ("192.0.2.1", 1), ("192.0.2.2", 2)
AGENT, COORDINATOR = who(Kind.AGENT, "a1"), who(Kind.COORDINATOR, "c1")

WEAK: dict[str, tuple[str, Any, hashes.HashAlgorithm]] = {
    "RSA of 1024 bits": (
        "weak_key",
        rsa.generate_private_key(65537, 1024),
        hashes.SHA256(),
    ),
    "signed with SHA-224": ("weak_signature", stranger_key(), hashes.SHA224()),
}
"""Weak keys that can still sign a TLS handshake; keys of other weak kinds fail inside TLS."""


@pytest.mark.parametrize(("reason", "key", "digest"), WEAK.values(), ids=list(WEAK))
async def test_a_weak_client_is_refused_and_told_why(
    tmp_path: Path, reason: str, key: Any, digest: hashes.HashAlgorithm
) -> None:
    place, links = Installation(tmp_path), []
    before = metrics.HANDSHAKES.labels(reason)._value.get()

    async def serve(link: Link) -> None:
        links.append(link)

    server = await place.carrier(COORDINATOR).serve(ANY_PORT, serve)
    weak = with_key(place.authority, AGENT, key, digest)
    with pytest.raises(Refused) as refused:
        await place.carrier(weak).dial(server.address, expect=Kind.COORDINATOR)
    await server.close()
    assert (refused.value.reason, links) == (reason, [])
    assert metrics.HANDSHAKES.labels(reason)._value.get() == before + 1


@pytest.mark.parametrize(("reason", "key", "digest"), WEAK.values(), ids=list(WEAK))
async def test_a_weak_server_is_refused(
    tmp_path: Path, reason: str, key: Any, digest: hashes.HashAlgorithm
) -> None:
    place = Installation(tmp_path)

    async def serve(link: Link) -> None:
        await link.receive()

    weak = with_key(place.authority, COORDINATOR, key, digest)
    server = await place.carrier(weak).serve(ANY_PORT, serve)
    with pytest.raises(Refused) as refused:
        await place.carrier(AGENT).dial(server.address, expect=Kind.COORDINATOR)
    await server.close()
    assert refused.value.reason == reason


def server_was_reached(client: Credentials, server: Credentials) -> bool:
    """Connect two peers in memory; return whether the server completed the handshake."""
    near, far = (
        mutual_tls.configuration(each, Limits(), is_client=each is client)
        for each in (client, server)
    )
    dialling = QuicConnection(configuration=near)
    dialling.connect(FAR, now=0.0)
    serving = QuicConnection(
        configuration=far,
        original_destination_connection_id=dialling.original_destination_connection_id,
    )
    mutual_tls.enforce(serving, lambda presented: None)
    for _ in range(8):
        for source, target, place in ((dialling, serving, NEAR), (serving, dialling, FAR)):
            for data, _ in source.datagrams_to_send(now=0.0):
                target.receive_datagram(data, place, now=0.0)
    events = iter(serving.next_event, None)
    return any(isinstance(event, HandshakeCompleted) for event in events)


@pytest.mark.parametrize(
    ("stated", "reached"),
    [
        (tls.SignatureAlgorithm.RSA_PKCS1_SHA1, False),
        (tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA256, True),
    ],
)
def test_a_client_that_proves_its_key_with_sha_1_is_turned_away_by_an_alert(
    monkeypatch: pytest.MonkeyPatch, stated: tls.SignatureAlgorithm, reached: bool
) -> None:
    signer, write = an_authority(), tls.push_certificate_verify

    def state(buf: Any, verify: tls.CertificateVerify) -> None:
        """Write a CertificateVerify message; in a message of the client, change the algorithm.

        The message then names the algorithm ``stated``. Only the client has an RSA key, so a
        message that names an RSA algorithm comes from the client.
        """
        if verify.algorithm == tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA256:
            verify = dataclasses.replace(verify, algorithm=stated)
        write(buf, verify)

    monkeypatch.setattr(tls, "push_certificate_verify", state)
    client = with_key(signer, AGENT, rsa.generate_private_key(65537, 2048))
    assert server_was_reached(client, credentials(signer, COORDINATOR)) is reached
