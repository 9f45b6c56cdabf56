"""TLS 1.3 between two ends that both show a certificate; bytes in, bytes out.

`ssl` verifies less than it could on purpose.  It proves that the peer holds the key of its
certificate and that the certificate leads to a trusted authority; validity, strength, usage,
identity and kind are judged by `security.chain` as on QUIC, where each has a name of its own.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from cryptography import x509

from midstreamer.domain.errors import Refused
from midstreamer.security import decide, tls
from midstreamer.security.chain import Presented
from midstreamer.security.credentials import Credentials
from midstreamer.security.reasons import Reason

READ_BYTES = 64 * 1024
_ALPN = "http/1.1"
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: `security.chain` says which date is wrong."""
_ANY_STRENGTH = "DEFAULT:@SECLEVEL=0"
"""Of keys and signatures in certificates: `security.chain` says which is weak. The ciphers of
TLS 1.3 do not depend on it."""
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
"""What the other side's TLS says, by the name that `ssl` gives it."""


def context(credentials: Credentials | None, *, server_side: bool) -> ssl.SSLContext:
    """What one connection is made with; only the self-test has no credentials."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_ciphers(_ANY_STRENGTH)
    made.check_hostname = False  # identities are URIs; no peer is told by its host
    made.verify_mode = ssl.CERT_REQUIRED if server_side else ssl.CERT_NONE
    made.verify_flags |= _NO_CHECK_TIME
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    if server_side:
        made.num_tickets = 0  # a resumed session would present no certificate
    made.set_alpn_protocols([_ALPN])
    if credentials is not None:
        tls.trust(made, credentials.anchors)
        tls.show(made, credentials)
    return made


class Tls:
    """One connection of TLS."""

    def __init__(self, made: ssl.SSLContext, *, server_side: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = made.wrap_bio(self._in, self._out, server_side=server_side)
        self.ready = False
        """The handshake is done, and the peer has proven its key."""
        self.ended = False
        """The peer said that nothing more comes."""

    def start(self) -> None:
        """Begin, on the side that dialled."""
        self._shake_hands()

    def receive(self, data: bytes) -> None:
        """Take what came. Refused names what the other side objects to, or we."""
        self._in.write(data)
        if not self.ready:
            self._shake_hands()

    def read(self) -> bytes:
        """Decrypt what has come, at most READ_BYTES; empty when nothing is left."""
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
        """Encrypt; `take` has it then."""
        self._tls.write(data)

    def close(self) -> None:
        """Say that nothing more comes."""
        if self.ready:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # wants the peer's answer, which need not be awaited

    def take(self) -> bytes:
        """What is to be sent."""
        return self._out.read()

    def free(self) -> None:
        """Drop all that is held; nothing can be done with it any more."""
        del self._tls, self._in, self._out

    @property
    def presented(self) -> Presented:
        """What the peer showed in its handshake."""
        # Public from Python 3.13 on; before it the inner object has it.
        inner: Any = self._tls if hasattr(self._tls, "get_unverified_chain") else vars(self._tls)
        inner = inner["_sslobj"] if isinstance(inner, dict) else inner
        shown = inner.get_unverified_chain
        certificates = [_certificate(one) for one in shown() or ()]
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
        raise decide.refused(Reason.UNREADABLE, str(error)) from error


def _ssl_der() -> int:
    import _ssl

    return int(_ssl.ENCODING_DER)


def _refusal(error: ssl.SSLError) -> Refused:
    """Why a handshake failed, in the words that QUIC uses."""
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong_usage = error.verify_code == _INVALID_PURPOSE
        reason = Reason.WRONG_USAGE if wrong_usage else Reason.UNKNOWN_AUTHORITY
        return decide.refused(reason, error.verify_message)
    if error.reason == _NO_PEER_CERTIFICATE:
        return decide.refused(Reason.NO_CERTIFICATE, "a client certificate is required")
    if error.reason in _ALERTS:
        return decide.refused(_ALERTS[error.reason], "the other side's TLS says so")
    return Refused(f"TLS: {error.reason or error}", reason=HANDSHAKE_FAILED)


HANDSHAKE_FAILED = "handshake_failed"
