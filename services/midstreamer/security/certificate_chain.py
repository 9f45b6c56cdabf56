"""Verify a peer's certificate and return the identity that it carries; pure.

`CHECKS` is an ordered list of checks; the first check that fails raises Refused with its reason.
The library `cryptography` verifies the path to a trusted authority (names, signatures, constraints,
validity of every authority on the path).  The rules for the peer's own certificate (the leaf) are
written out here, so that each refusal has a named reason.  Host names are not checked;
`security.admission` decides by the identity.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, Refused
from midstreamer.domain.identity import Identity
from midstreamer.security.admission import refused
from midstreamer.security.refusal_reasons import Reason

INTERMEDIATES_MAX = 4
"""Maximum intermediate certificates that a peer may present."""
RSA_BITS_MIN = 2048
"""Least size of an RSA key in bits."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Elliptic curves allowed for keys: P-256, P-384 and P-521, the curves that TLS 1.3 signs with."""
SHORT_HASH_CHARACTERS = 16
"""Length of a short hash, in hexadecimal characters."""
DIGEST_BYTES_MIN = 32
"""Least bytes of the hash in a signature: SHA-256 or longer, so not MD5, SHA-1 or SHA-224."""
E = TypeVar("E", bound=x509.ExtensionType)
Signable: TypeAlias = x509.Certificate | x509.CertificateSigningRequest


class Role(Enum):
    """Role of a peer on a connection; its certificate must allow the role."""

    DIALS = ExtendedKeyUsageOID.CLIENT_AUTH
    SERVES = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Presented:
    """Certificates that a peer presented in the TLS handshake."""

    leaf: x509.Certificate | None
    intermediates: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True)
class Case:
    """The input of a check: the presented certificates, trusted authorities, role, and time."""

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    anchors: tuple[x509.Certificate, ...]
    role: Role
    now: dt.datetime

    @functools.cached_property
    def path(self) -> tuple[x509.Certificate, ...] | verification.VerificationError:
        """Certificates from the leaf to a trusted authority, or the error if no path is valid."""
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(self.anchors)))
            .time(self.now)
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                # Other checks of this module verify the extensions of the leaf. With this policy,
                # `cryptography` refuses only critical extensions that it does not know.
                ee_policy=verification.ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        try:
            return tuple(verifier.verify(self.leaf, list(self.intermediates)).chain)
        except verification.VerificationError as error:
            return error


@dataclass(frozen=True)
class Verdict:
    """Result of a successful verification: the identity of the peer, and the trusted authority at
    the end of its certificate path."""

    identity: Identity
    authority: x509.Certificate


Check = Callable[[Case], Refused | None]


def has_begun(case: Case) -> Refused | None:
    """Refuse a certificate that is not valid yet.

    It may have been made for later use and been stolen, or the clock of the issuer or of this
    machine may be wrong.
    """
    begins = case.leaf.not_valid_before_utc
    if begins <= case.now:
        return None
    return refused(Reason.NOT_YET_VALID, f"{_who(case)} is valid from {begins:%Y-%m-%d %H:%M} UTC")


def has_not_expired(case: Case) -> Refused | None:
    """Refuse an expired certificate.

    This check comes before `leads_to_an_authority`, whose verifier does not report the date of
    expiry.
    """
    ends = case.leaf.not_valid_after_utc
    if case.now <= ends:
        return None
    return refused(Reason.EXPIRED, f"{_who(case)} expired on {ends:%Y-%m-%d %H:%M} UTC")


def is_strong(case: Case) -> Refused | None:
    """Refuse a weak key or a weak signature in the peer's certificate and its intermediates.

    This check comes before `leads_to_an_authority`, whose verifier checks the keys of authorities
    only and reports each weak signature as an unknown authority.  Self-signatures are not checked,
    because they prove nothing: an authority is trusted because it is in the bundle.
    """
    for certificate in (case.leaf, *case.intermediates):
        if weakness := weakness_of(certificate):
            reason, what = weakness
            return refused(reason, f"certificate {certificate.serial_number:x}: {what}")
    return None


def leads_to_an_authority(case: Case) -> Refused | None:
    """Refuse a certificate from which no valid path of signatures leads to a trusted authority."""
    if len(case.intermediates) > INTERMEDIATES_MAX:
        return refused(
            Reason.UNKNOWN_AUTHORITY,
            f"{len(case.intermediates)} intermediate certificates, at most {INTERMEDIATES_MAX} are"
            " allowed",
        )
    if not case.anchors:
        return refused(Reason.UNKNOWN_AUTHORITY, "no authority is trusted here")
    if isinstance(case.path, tuple):
        return None
    if weak := _weak_authority(case):
        return refused(Reason.WEAK_KEY, weak)
    return refused(Reason.UNKNOWN_AUTHORITY, f"{_who(case)}: {case.path}")


def is_made_for_its_role(case: Case) -> Refused | None:
    """Refuse a certificate whose usages do not allow the role of the peer.

    It must be a leaf, allow digital signatures, and name the extended key usage of the role.
    """
    constraints = extension(case.leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return refused(Reason.WRONG_USAGE, f"{_who(case)} is an authority, not a leaf")
    usage = extension(case.leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return refused(Reason.WRONG_USAGE, f"{_who(case)} may not be used for digital signatures")
    purposes = extension(case.leaf, x509.ExtendedKeyUsage)
    if purposes is None or case.role.value not in purposes:
        return refused(Reason.WRONG_USAGE, f"{_who(case)} is not for a peer that {_does(case)}")
    return None


def carries_one_identity(case: Case) -> Refused | None:
    """Refuse a certificate that does not carry exactly one URI which is a valid identity."""
    try:
        _identity(case.leaf)
    except BadInput as error:
        return refused(Reason.NO_IDENTITY, error.message)
    return None


def is_labelled_as_it_is_named(case: Case) -> Refused | None:
    """Refuse a certificate whose common name is not the label of its id (`Identity.label`).

    Operators read the common name, so it must not suggest another identity.
    """
    names = case.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    label = _identity(case.leaf).label
    if [name.value for name in names] == [label]:
        return None
    shown = ", ".join(repr(name.value) for name in names) or "none"
    return refused(Reason.LABEL_MISMATCH, f"common name {shown}, but the id's label is {label!r}")


CHECKS: tuple[Check, ...] = (
    has_begun,
    has_not_expired,
    is_strong,
    leads_to_an_authority,
    is_made_for_its_role,
    carries_one_identity,
    is_labelled_as_it_is_named,
)


def identify(
    presented: Presented, anchors: Sequence[x509.Certificate], role: Role, now_s: float
) -> Identity:
    """Return the identity of the peer that presented a certificate.

    Raises Refused with the reason of the first check that fails.
    """
    return judge(presented, anchors, role, now_s).identity


def judge(
    presented: Presented, anchors: Sequence[x509.Certificate], role: Role, now_s: float
) -> Verdict:
    """Return the identity of the peer that presented a certificate, and its trusted authority.

    ``anchors`` are the trusted authorities, ``now_s`` is in seconds since 1970.  Raises Refused
    with the reason of the first check that fails.
    """
    if presented.leaf is None:
        raise refused(Reason.NO_CERTIFICATE, "a client certificate is required")
    now = dt.datetime.fromtimestamp(now_s, dt.UTC)
    case = Case(presented.leaf, presented.intermediates, tuple(anchors), role, now)
    try:
        for check in CHECKS:
            if objection := check(case):
                raise objection
        assert isinstance(case.path, tuple)  # noqa: S101 - `leads_to_an_authority` passed
        return Verdict(_identity(case.leaf), case.path[-1])
    except Refused:
        raise
    except Exception as error:
        # Some part of a certificate cannot be read. Depending on the part, `cryptography` raises
        # ValueError, DuplicateExtension or TypeError (for a name whose value has a wrong type).
        raise refused(Reason.UNREADABLE, str(error)) from error


def short_hash(certificate: x509.Certificate) -> str:
    """Return the first `SHORT_HASH_CHARACTERS` of a certificate's SHA-256 fingerprint, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:SHORT_HASH_CHARACTERS]


def bundle_hash(certificates: Iterable[x509.Certificate]) -> str:
    """Return a short hash of a set of certificates, independent of their order, in hex."""
    fingerprints = sorted(each.fingerprint(hashes.SHA256()) for each in certificates)
    return hashlib.sha256(b"".join(fingerprints)).hexdigest()[:SHORT_HASH_CHARACTERS]


def weakness_of(certificate: x509.Certificate) -> tuple[Reason, str] | None:
    """Return (reason, message) if a certificate's key or signature is too weak; else None."""
    if weak := _weak_key(certificate):
        return Reason.WEAK_KEY, weak
    if certificate.issuer == certificate.subject:
        return None
    if weak := _weak_signature(certificate):
        return Reason.WEAK_SIGNATURE, weak
    return None


def weakness_of_request(request: x509.CertificateSigningRequest) -> str:
    """Return why a signing request's key or signature is too weak; "" if both are strong."""
    return _weak_key(request) or _weak_signature(request)


def _weak_key(holder: Signable) -> str:
    try:
        key = holder.public_key()
    except UnsupportedAlgorithm as error:
        return f"its key is of an unsupported type ({error})"
    match key:
        case rsa.RSAPublicKey() if key.key_size < RSA_BITS_MIN:
            return f"its RSA key has {key.key_size} bits, at least {RSA_BITS_MIN} are needed"
        case ec.EllipticCurvePublicKey() if key.curve.name not in CURVES:
            return f"its key is on the curve {key.curve.name}, allowed: {', '.join(CURVES)}"
        case (
            rsa.RSAPublicKey()
            | ec.EllipticCurvePublicKey()
            | ed25519.Ed25519PublicKey()
            | ed448.Ed448PublicKey()
        ):
            return ""
    return "its key is neither of RSA nor of an elliptic curve for signing"


def _weak_signature(signed: Signable) -> str:
    try:
        digest = signed.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        return f"it is signed with an unsupported algorithm ({error})"
    if digest is None or digest.digest_size >= DIGEST_BYTES_MIN:
        return ""  # signatures of Ed25519 and Ed448 name no hash, and are strong
    return f"it is signed with {digest.name}, at least sha256 is needed"


def _weak_authority(case: Case) -> str:
    """Return which trusted authority has a weak key, and why; "" if none has.

    Only authorities that are named as issuer of a presented certificate are checked.
    """
    issuers = {each.issuer for each in (case.leaf, *case.intermediates)}
    for anchor in case.anchors:
        if anchor.subject in issuers and (weak := _weak_key(anchor)):
            return f"the trusted authority {anchor.subject.rfc4514_string()}: {weak}"
    return ""


def _identity(leaf: x509.Certificate) -> Identity:
    names = extension(leaf, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:
        raise BadInput(f"the certificate has {len(uris)} URIs; it must have exactly one")
    return identity.parse(uris[0])


def extension(signed: Signable, kind: type[E]) -> E | None:
    """Return the extension of type ``kind`` of a certificate or request; None if it has none."""
    try:
        return signed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _who(case: Case) -> str:
    return f"certificate {case.leaf.serial_number:x}"


def _does(case: Case) -> str:
    return "dials" if case.role is Role.DIALS else "serves"
