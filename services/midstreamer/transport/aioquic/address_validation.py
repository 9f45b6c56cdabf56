"""Address validation with QUIC Retry (RFC 9000, section 8.1.2).

A Retry proves that a sender receives packets at its address.  The server keeps no state for it: a
Retry carries an encrypted token, and the sender returns that token in its next packet.  A
token is valid for one address, one connection and 30 s.  Only the `AddressProof` that made a token
has the key to it, so no other `AddressProof` accepts the token.
"""

from __future__ import annotations

import secrets

from aioquic.quic.packet import QuicHeader, encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler

from midstreamer.transport.hosts import SocketAddress


class AddressProof:
    """Makes Retry packets with tokens, and checks the tokens that senders return."""

    def __init__(self, *, connection_id_bytes: int) -> None:
        self._tokens = QuicRetryTokenHandler()
        self._connection_id_bytes = connection_id_bytes

    def request(self, header: QuicHeader, address: SocketAddress, *, now_s: float) -> bytes:
        """Return the Retry packet for a connection's first packet.

        The Retry is smaller than that packet.  So it is no help to an attacker who forges the
        sender's address to flood that address with our answers.
        """
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
        """Return the destination connection id of the sender's first packet, from its token.

        Return None if the token is not valid, so that the address is not proven.
        """
        try:
            return self._tokens.validate_token(
                address=(address[0], address[1]),
                destination_cid=header.destination_cid,
                token=header.token,
                now=now_s,
            )
        except ValueError:
            return None
