"""Mutual TLS that holds: no peer gets further than its certificate.

Both sides present a certificate; each is judged inside the TLS handshake, right after its
possession was proven and before any key for application data is confirmed.  A refusal is raised
as a TLS alert, so that the peer is told the reason.  No session tickets are issued: a resumed
session would present no certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aioquic import tls
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection

from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.protocol import frames
from midstreamer.security.chain import Presented
from midstreamer.security.credentials import Credentials
from midstreamer.security.reasons import Reason
from midstreamer.transport import phrases
from midstreamer.transport.aioquic import internals
from midstreamer.transport.carrier import Limits

REASON_BYTES_MAX = 300
"""A reason is repeated in up to three packets of one datagram."""
WINDOW_BYTES = 1024 * 1024
"""What a peer may send on a stream beyond what was read of it, at first; the window grows with what
was read, up to the most: a peer that was never read from can make us hold little."""
WINDOW_BYTES_MAX = 8 * 1024 * 1024
STREAMS = 2
"""Of our protocol; a few more may be opened, so that data on them is refused by its name."""
STREAMS_MAX = 4
CRYPTO_BYTES_MAX = 64 * 1024
"""Handshake messages of one peer: a chain of certificates takes some 5 kB."""

Judge = Callable[[Presented], None]
"""Raises Refused, or Overloaded, for a peer that may not connect."""

_ALERTS: dict[str, tls.AlertDescription] = {
    Reason.NO_CERTIFICATE: tls.AlertDescription.certificate_required,
    Reason.UNKNOWN_AUTHORITY: tls.AlertDescription.unknown_ca,
    Reason.WEAK_KEY: tls.AlertDescription.unsupported_certificate,
    # RFC 8446, section 4.4.2.4, asks for this one.
    Reason.WEAK_SIGNATURE: tls.AlertDescription.bad_certificate,
    Reason.EXPIRED: tls.AlertDescription.certificate_expired,
    Reason.NOT_YET_VALID: tls.AlertDescription.certificate_expired,
    Reason.WRONG_TRUST_DOMAIN: tls.AlertDescription.access_denied,
    Reason.WRONG_KIND: tls.AlertDescription.access_denied,
    Reason.NOT_ALLOWED: tls.AlertDescription.access_denied,
    Reason.TOO_MANY_LINKS: tls.AlertDescription.access_denied,
}


class RefusalAlert(tls.Alert):
    """A refusal as TLS tells it: a number of the standard, and our reason as its text."""

    def __init__(self, refusal: MidstreamerError) -> None:
        super().__init__(phrases.cut(refusal.message, REASON_BYTES_MAX))
        reason = refusal.reason if isinstance(refusal, Refused) else refusal.code
        self.description = _ALERTS.get(reason, tls.AlertDescription.bad_certificate)


def configuration(
    credentials: Credentials | None,
    limits: Limits,
    *,
    is_client: bool,
    datagram_bytes: int = SMALLEST_MAX_DATAGRAM_SIZE,
) -> QuicConfiguration:
    """What aioquic needs to know; made anew for each connection, so that new certificates count.

    Only the self-test has no credentials.
    """
    made = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[frames.ALPN],
        idle_timeout=limits.idle_s,
        max_datagram_size=datagram_bytes,
        max_data=STREAMS * WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
        # aioquic's own check is by host name; `enforce` puts ours in its place.
        verify_mode=ssl.CERT_NONE,
    )
    if credentials is not None:
        made.certificate = credentials.certificate
        made.certificate_chain = list(credentials.intermediates)
        made.private_key = credentials.key
    return made


def window(consumed_bytes: int) -> int:
    """Bytes that a peer may be ahead of what was read of it."""
    return min(max(consumed_bytes, WINDOW_BYTES), WINDOW_BYTES_MAX)


def enforce(connection: QuicConnection, judge: Judge) -> None:
    """Have a connection that has not begun judge its peer, and hold little for it."""

    def alerting(presented: Presented) -> None:
        try:
            judge(presented)
        except MidstreamerError as refusal:
            raise RefusalAlert(refusal) from refusal
        except Exception as error:
            # Whatever went wrong while judging, nobody gets in by it.
            raise tls.AlertInternalError("the peer could not be judged") from error

    def prepare(context: tls.Context) -> None:
        internals.refuse_unreadable_certificates(context)
        if connection.configuration.is_client:
            internals.judge_server_certificate(context, alerting)
        else:
            internals.require_client_certificate(context, alerting)

    internals.on_tls(connection, prepare)
    internals.hold_little(connection, crypto_bytes_max=CRYPTO_BYTES_MAX)
    internals.respect_datagram_size(connection)
    internals.allow_by_consumption(connection, window=window, streams=STREAMS)
    internals.limit_streams(
        connection, bidirectional=0 if connection.configuration.is_client else STREAMS_MAX
    )
