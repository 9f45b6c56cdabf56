"""Why a peer was turned away: the words that refusals, logs and metric labels share."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word for each way to be refused before a frame is read."""

    NO_CERTIFICATE = "no_certificate"
    """The peer presented none."""
    UNREADABLE = "unreadable_certificate"
    """What it presented is no certificate, or a part of it cannot be read."""
    UNKNOWN_AUTHORITY = "unknown_authority"
    """No chain leads from it to a trusted authority."""
    WEAK_KEY = "weak_key"
    """A key on the way is RSA below 2048 bits, DSA, or on a curve other than P-256, P-384 and
    P-521."""
    WEAK_SIGNATURE = "weak_signature"
    """A certificate on the way is signed with less than SHA-256; an authority's own signature of
    itself does not count."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_USAGE = "wrong_usage"
    """Its key usage does not allow this role: a server's certificate used to dial, or reverse."""
    NO_IDENTITY = "no_identity"
    """It carries not exactly one URI of the form spiffe://<trust domain>/<kind>/<id>."""
    LABEL_MISMATCH = "label_mismatch"
    """Its common name is not the last readable part of its id."""
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    WRONG_KIND = "wrong_kind"
    """Not the kind that was dialled, or a kind this server does not serve."""
    NOT_ALLOWED = "not_allowed"
    """Not on the allowlist."""
    TOO_MANY_LINKS = "too_many_links"
    """It has as many connections to this server as one identity may have."""
