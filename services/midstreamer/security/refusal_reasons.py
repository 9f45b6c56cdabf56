"""Reasons for refusing a peer, as used in refusals, logs and metric labels."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons for refusing a peer before its first frame is read."""

    NO_CERTIFICATE = "no_certificate"
    """The peer presented no certificate."""
    UNREADABLE = "unreadable_certificate"
    """The peer's certificate, or a part of it, cannot be read."""
    UNKNOWN_AUTHORITY = "unknown_authority"
    """No valid chain leads from the peer's certificate to a trusted authority."""
    WEAK_KEY = "weak_key"
    """A key in the certificate chain is RSA below 2048 bits, DSA, or on a curve other than P-256,
    P-384 and P-521."""
    WEAK_SIGNATURE = "weak_signature"
    """A certificate in the chain is signed with a hash shorter than SHA-256. The self-signature of
    an authority is not checked."""
    EXPIRED = "expired"
    """The peer's certificate has expired."""
    NOT_YET_VALID = "not_yet_valid"
    """The peer's certificate is not valid yet."""
    WRONG_USAGE = "wrong_usage"
    """The key usages of the peer's certificate do not allow its role: for example a server's
    certificate that is used to dial."""
    NO_IDENTITY = "no_identity"
    """The peer's certificate does not carry exactly one URI of the form spiffe://<trust
    domain>/<kind>/<id>."""
    LABEL_MISMATCH = "label_mismatch"
    """The common name of the peer's certificate is not the label of the peer's id. The label is the
    readable name in an id: its last part that is not a UID of Kubernetes."""
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    """The peer's identity belongs to another trust domain."""
    WRONG_KIND = "wrong_kind"
    """The peer's kind is wrong. Either this process dialled the peer and expected another kind, or
    the peer dialled this server, which does not serve that kind."""
    NOT_ALLOWED = "not_allowed"
    """The peer's identity is not on the allowlist."""
    TOO_MANY_LINKS = "too_many_links"
    """The peer's identity has as many connections to this server as one identity may have."""
