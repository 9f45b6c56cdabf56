"""TLS 1.3 without I/O, between two peers that both present a certificate.

`ssl` is configured to check only that the peer owns the key of its certificate and that the
certificate chains to a trusted authority.  `security.certificate_chain` checks validity, strength,
usage, identity and kind, as on QUIC, so that each failure has its own named reason.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from cryptography import x509

from midstreamer.domain.errors import Refused
from midstreamer.security import admission, tls
from midstreamer.security.certificate_chain import Presented
from midstreamer.security.credentials import Credentials
from midstreamer.security.refusal_reasons import Reason

READ_BYTES = 64 * 1024
_ALPN = "http/1.1"
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: do not check dates; `security.certificate_chain` does."""
_ANY_STRENGTH = "DEFAULT:@SECLEVEL=0"
"""Cipher string that accepts any strength of keys and signatures in certificates, because
`security.certificate_chain` checks them. It does not change the ciphers of TLS 1.3."""
_INVALID_PURPOSE = 26
"""X509_V_ERR_INVALID_PURPOSE of OpenSSL."""
_NO_PEER_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": Reason.NO_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": Reason.UNKNOWN_AUTHORITY,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": Reason.WRONG_USAGE,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Reason.EXPIRED,
    "SSLV3_ALERT_BAD_CERTIFICATE": Reason.UNREADABLE,
}
"""For each TLS alert that a peer may send to refuse this side: the Reason with the same meaning.

The keys are the names of the alerts in `ssl`."""


def context(credentials: Credentials | None, *, server_side: bool) -> ssl.SSLContext:
    """Return the settings of TLS for one side, with its certificate and trusted authorities.

    ``credentials`` are None only for the client without a certificate in the self-test.
    """
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    settings.minimum_version = ssl.TLSVersion.TLSv1_3
    settings.set_ciphers(_ANY_STRENGTH)
    settings.check_hostname = False  # peers are identified by a URI, not by a host name
    settings.verify_mode = ssl.CERT_REQUIRED if server_side else ssl.CERT_NONE
    settings.verify_flags |= _NO_CHECK_TIME
    settings.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    if server_side:
        settings.num_tickets = 0  # a resumed session would present no certificate
    settings.set_alpn_protocols([_ALPN])
    if credentials is not None:
        tls.trust(settings, credentials.anchors)
        tls.show(settings, credentials)
    return settings


class Tls:
    """One TLS connection in memory: the caller moves the encrypted bytes."""

    def __init__(self, made: ssl.SSLContext, *, server_side: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = made.wrap_bio(self._in, self._out, server_side=server_side)
        self.ready = False
        """True: the handshake is complete, and the peer has proven that it owns its key."""
        self.ended = False
        """True: the peer has closed its side of TLS, and no more data follows."""

    def start(self) -> None:
        """Begin the handshake. Only the side that dialled calls this."""
        self._shake_hands()

    def receive(self, data: bytes) -> None:
        """Add received encrypted bytes. Raise Refused if the handshake fails on either side."""
        self._in.write(data)
        if not self.ready:
            self._shake_hands()

    def read(self) -> bytes:
        """Return at most `READ_BYTES` of decrypted data; empty if there is none."""
        try:
            data = self._tls.read(READ_BYTES)
        except ssl.SSLWantReadError:
            return b""
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            data = b""
        except ssl.SSLError as error:
            raise _refusal(error) from error
        self.ended = self.ended or not data
        return data

    def write(self, data: bytes) -> None:
        """Encrypt data; `take` returns the encrypted bytes."""
        self._tls.write(data)

    def close(self) -> None:
        """Make the TLS alert close_notify, which tells the peer that no more data follows."""
        if self.ready:
            with contextlib.suppress(ssl.SSLError):
                # `unwrap` makes the alert.  Then it raises an error, because the peer has not sent
                # its own close_notify yet.
                self._tls.unwrap()

    def take(self) -> bytes:
        """Return and remove the encrypted bytes to send."""
        return self._out.read()

    def free(self) -> None:
        """Free the memory. The object cannot be used after this call."""
        del self._tls, self._in, self._out

    @property
    def presented(self) -> Presented:
        """The certificates that the peer presented in its handshake."""
        # get_unverified_chain is public since Python 3.13; before, only the inner object has it.
        inner: Any = self._tls if hasattr(self._tls, "get_unverified_chain") else vars(self._tls)
        inner = inner["_sslobj"] if isinstance(inner, dict) else inner
        chain_of_peer = inner.get_unverified_chain
        certificates = [_certificate(shown) for shown in chain_of_peer() or ()]
        if not certificates:
            return Presented(None)
        return Presented(certificates[0], tuple(certificates[1:]))

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise _refusal(error) from error
        self.ready = True


def _certificate(shown: object) -> x509.Certificate:
    der = shown if isinstance(shown, bytes) else shown.public_bytes(_ssl_der())  # type: ignore[attr-defined]
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise admission.refused(Reason.UNREADABLE, str(error)) from error


def _ssl_der() -> int:
    import _ssl

    return int(_ssl.ENCODING_DER)


def _refusal(error: ssl.SSLError) -> Refused:
    """Return the Refused for a failed handshake, with the same reasons as on QUIC."""
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong_usage = error.verify_code == _INVALID_PURPOSE
        reason = Reason.WRONG_USAGE if wrong_usage else Reason.UNKNOWN_AUTHORITY
        return admission.refused(reason, error.verify_message)
    if error.reason == _NO_PEER_CERTIFICATE:
        return admission.refused(Reason.NO_CERTIFICATE, "a client certificate is required")
    if error.reason in _ALERTS:
        return admission.refused(_ALERTS[error.reason], "the peer sent this reason as a TLS alert")
    return Refused(f"TLS: {error.reason or error}", reason=HANDSHAKE_FAILED)


HANDSHAKE_FAILED = "handshake_failed"
