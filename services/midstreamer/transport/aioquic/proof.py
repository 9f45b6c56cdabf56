"""Proof that a sender receives at the address it sends from: Retry (RFC 9000, section 8.1.2).

Nothing is kept for whoever is asked: the answer to a Retry carries an encrypted token with all
that must be known.  Tokens are good for one address, one connection and half a minute, and for
one server: its key dies with it.
"""

from __future__ import annotations

import secrets

from aioquic.quic.packet import QuicHeader, encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler

from midstreamer.transport.hosts import SocketAddress


class AddressProof:
    """Asks senders for the proof, and checks it."""

    def __init__(self, *, connection_id_bytes: int) -> None:
        self._tokens = QuicRetryTokenHandler()
        self._connection_id_bytes = connection_id_bytes

    def request(self, header: QuicHeader, address: SocketAddress, *, now_s: float) -> bytes:
        """The Retry that answers a first packet; smaller than that, so of no use to amplify."""
        if header.version is None:
            raise ValueError("a packet without a version is not the first of a connection")
        source_cid = secrets.token_bytes(self._connection_id_bytes)
        token = self._tokens.create_token(
            address=(address[0], address[1]),
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_cid,
            now=now_s,
        )
        return encode_quic_retry(
            version=header.version,
            source_cid=source_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )

    def original_cid(
        self, header: QuicHeader, address: SocketAddress, *, now_s: float
    ) -> bytes | None:
        """The number the sender had chosen before it was asked; None when this proves nothing."""
        try:
            return self._tokens.validate_token(
                address=(address[0], address[1]),
                destination_cid=header.destination_cid,
                token=header.token,
                now=now_s,
            )
        except ValueError:
            return None
