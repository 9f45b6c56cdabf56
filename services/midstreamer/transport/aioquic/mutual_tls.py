"""Enforcement of mutual TLS: a peer without a valid certificate cannot complete the TLS handshake.

Both sides present a certificate.  Each is verified inside the TLS handshake, right after the peer
has proven that it owns the key, and before the keys for application data are confirmed.  A refusal
is sent as a TLS alert, with the reason as text.  No session tickets are issued, because a resumed
session presents no certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aioquic import tls
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.protocol import frames
from midstreamer.security.certificate_chain import Presented
from midstreamer.security.credentials import Credentials
from midstreamer.security.refusal_reasons import Reason
from midstreamer.transport import close_reasons
from midstreamer.transport.aioquic import aioquic_internals
from midstreamer.transport.carrier import Limits

REASON_BYTES_MAX = 300
"""Maximum bytes of a reason for closing. It is small, because the last datagram may contain three
packets, each with the reason."""
WINDOW_BYTES = 1024 * 1024
"""First flow-control window of a stream: bytes that a peer may send beyond the bytes that were
consumed. The window grows with the consumed bytes, so that a new peer cannot make this process hold
much."""
WINDOW_BYTES_MAX = 8 * 1024 * 1024
"""Largest flow-control window of a stream."""
STREAMS = 2
"""Streams that our protocol uses on one connection."""
STREAMS_MAX = 4
"""Streams that a client may open. A client should use only `STREAMS`. The limit is larger, so that
data on a wrong stream is received and answered with a Refusal that names the mistake: QUIC itself
would only close the connection."""
CRYPTO_BYTES_MAX = 64 * 1024
"""Maximum bytes of handshake messages from one peer. A chain of certificates takes about 5 kB."""

Judge = Callable[[Presented], None]
"""Function that verifies a peer. It raises Refused or Overloaded if the peer may not connect."""

_ALERTS: dict[str, tls.AlertDescription] = {
    Reason.NO_CERTIFICATE: tls.AlertDescription.certificate_required,
    Reason.UNKNOWN_AUTHORITY: tls.AlertDescription.unknown_ca,
    Reason.WEAK_KEY: tls.AlertDescription.unsupported_certificate,
    # RFC 8446, section 4.4.2.4, prescribes this alert for a weak signature.
    Reason.WEAK_SIGNATURE: tls.AlertDescription.bad_certificate,
    Reason.EXPIRED: tls.AlertDescription.certificate_expired,
    Reason.NOT_YET_VALID: tls.AlertDescription.certificate_expired,
    Reason.WRONG_TRUST_DOMAIN: tls.AlertDescription.access_denied,
    Reason.WRONG_KIND: tls.AlertDescription.access_denied,
    Reason.NOT_ALLOWED: tls.AlertDescription.access_denied,
    Reason.TOO_MANY_LINKS: tls.AlertDescription.access_denied,
}


class RefusalAlert(tls.Alert):
    """The TLS alert for a refusal: an alert number of the standard, with our reason as its text."""

    def __init__(self, refusal: MidstreamerError) -> None:
        super().__init__(close_reasons.cut(refusal.message, REASON_BYTES_MAX))
        reason = refusal.reason if isinstance(refusal, Refused) else refusal.code
        self.description = _ALERTS.get(reason, tls.AlertDescription.bad_certificate)


def configuration(
    credentials: Credentials | None,
    limits: Limits,
    *,
    is_client: bool,
    datagram_bytes: int = SMALLEST_MAX_DATAGRAM_SIZE,
) -> QuicConfiguration:
    """Return aioquic's configuration for one connection, with the certificate in force now.

    ``credentials`` are None only for the client without a certificate in the self-test.
    """
    settings = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[frames.ALPN],
        idle_timeout=limits.idle_s,
        max_datagram_size=datagram_bytes,
        max_data=STREAMS * WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        # CERT_NONE turns off aioquic's own check of certificates, which knows host names but none
        # of our identities.  `enforce` installs our check instead.
        verify_mode=ssl.CERT_NONE,
    )
    if credentials is not None:
        settings.certificate = credentials.certificate
        settings.certificate_chain = list(credentials.intermediates)
        settings.private_key = credentials.key
    return settings


def window(consumed_bytes: int) -> int:
    """Return the flow-control window in bytes, from the bytes consumed so far."""
    return min(max(consumed_bytes, WINDOW_BYTES), WINDOW_BYTES_MAX)


def enforce(connection: QuicConnection, judge: Judge) -> None:
    """Make a new connection verify its peer with ``judge``, and limit the memory that it uses."""

    def alerting(presented: Presented) -> None:
        try:
            judge(presented)
        except MidstreamerError as refusal:
            raise RefusalAlert(refusal) from refusal
        except Exception as error:
            # Any other error during the check refuses the peer, too.
            raise tls.AlertInternalError(
                "an internal error prevented the check of the peer's certificate"
            ) from error

    def prepare(context: tls.Context) -> None:
        aioquic_internals.refuse_unreadable_certificates(context)
        if connection.configuration.is_client:
            aioquic_internals.judge_server_certificate(context, alerting)
        else:
            aioquic_internals.require_client_certificate(context, alerting)

    aioquic_internals.on_tls(connection, prepare)
    aioquic_internals.hold_little(connection, crypto_bytes_max=CRYPTO_BYTES_MAX)
    aioquic_internals.respect_datagram_size(connection)
    aioquic_internals.allow_by_consumption(connection, window=window, streams=STREAMS)
    aioquic_internals.limit_streams(
        connection, bidirectional=0 if connection.configuration.is_client else STREAMS_MAX
    )
