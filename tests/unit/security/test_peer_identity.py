"""The identity in a certificate: each refusal has a named reason; checks have a fixed order."""

import datetime as dt
import time
from collections.abc import Callable
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer.security import admission, certificate_chain
from midstreamer.security.authority import Authority
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.security.refusal_reasons import Reason
from tests.support.identity_builders import (
    DAY_S,
    an_authority,
    credentials,
    mislabelled,
    stranger_key,
    who,
    with_key,
)

OURS = an_authority()
AGENT = who(Kind.AGENT, "a1")


def identify(
    leaf: x509.Certificate | None, role: Role = Role.DIALS, *, at_s: float = 0.0
) -> object:
    return certificate_chain.identify(
        Presented(leaf), (OURS.certificate,), role, time.time() + at_s
    )


def crafted(
    change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder],
    *,
    usage: bool = True,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    """Return a certificate from the test's CA; `change` adds the extensions that the test needs."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a1")]))
        .issuer_name(OURS.certificate.subject)
        .public_key((key or stranger_key()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(OURS.key.public_key()), False
        )
    )
    if usage:
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(client, False)
    return change(builder).sign(OURS.key, hashes.SHA256())


def uris(*values: str) -> Callable[[x509.CertificateBuilder], x509.CertificateBuilder]:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in values])
    return lambda builder: builder.add_extension(names, False)


def test_a_good_certificate_becomes_its_identity() -> None:
    assert identify(credentials(OURS, AGENT).certificate) == AGENT
    coordinator = who(Kind.COORDINATOR, "prod/c-0/0b1c2d3e-0000-4000-8000-0123456789ab")
    leaf = credentials(OURS, coordinator).certificate
    assert identify(leaf, Role.SERVES) == identify(leaf, Role.DIALS) == coordinator


def by_an_authority_below() -> object:
    key = stranger_key()

    def as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        return builder.add_extension(constraints, True).add_extension(public, False)

    below = Authority(OURS.trust_domain, crafted(as_authority, usage=False, key=key), key)
    presented = Presented(credentials(below, AGENT).certificate, (below.certificate,))
    return certificate_chain.identify(presented, (OURS.certificate,), Role.DIALS, time.time())


def below_a_weak_authority() -> object:
    key = rsa.generate_private_key(65537, 1024)
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    signer = Authority(OURS.trust_domain, root, cast("ec.EllipticCurvePrivateKey", key))
    leaf = credentials(signer, AGENT).certificate
    return certificate_chain.identify(Presented(leaf), (root,), Role.DIALS, time.time())


def signed_with_sha1() -> x509.Certificate:
    """Return a certificate that claims to have an RSA signature with SHA-1.

    No library signs with SHA-1 any more, so the algorithm's number is replaced in the encoded
    certificate.
    """
    key = rsa.generate_private_key(65537, 2048)
    signer = Authority(OURS.trust_domain, OURS.certificate, cast("ec.EllipticCurvePrivateKey", key))
    encoded = credentials(signer, AGENT).certificate.public_bytes(serialization.Encoding.DER)
    with_sha256, with_sha1 = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05"))
    return x509.load_der_x509_certificate(encoded.replace(with_sha256, with_sha1))


def by_key(key: object, digest: hashes.HashAlgorithm | None = None) -> object:
    return identify(with_key(OURS, AGENT, key, digest).certificate)


CASES: dict[str, tuple[Reason, Callable[[], object]]] = {
    "nothing presented": (Reason.NO_CERTIFICATE, lambda: identify(None)),
    "another authority": (
        Reason.UNKNOWN_AUTHORITY,
        lambda: identify(credentials(an_authority(), AGENT).certificate),
    ),
    "signed by itself": (Reason.WRONG_USAGE, lambda: identify(OURS.certificate)),
    "yesterday's": (
        Reason.EXPIRED,
        lambda: identify(credentials(OURS, AGENT).certificate, at_s=1.5 * DAY_S),
    ),
    "tomorrow's": (
        Reason.NOT_YET_VALID,
        lambda: identify(credentials(OURS, AGENT, begins_in_s=DAY_S / 2).certificate),
    ),
    "made for serving only": (
        Reason.WRONG_USAGE,
        lambda: identify(credentials(OURS, who(Kind.SYNC)).certificate),
    ),
    "made for dialling only": (
        Reason.WRONG_USAGE,
        lambda: identify(credentials(OURS, AGENT).certificate, Role.SERVES),
    ),
    "made for nothing in particular": (
        Reason.WRONG_USAGE,
        lambda: identify(crafted(uris(AGENT.uri), usage=False)),
    ),
    "no URI": (Reason.NO_IDENTITY, lambda: identify(crafted(lambda builder: builder))),
    "two URIs": (
        Reason.NO_IDENTITY,
        lambda: identify(crafted(uris(AGENT.uri, who(Kind.AGENT, "a2").uri))),
    ),
    "a URI of something else": (
        Reason.NO_IDENTITY,
        lambda: identify(crafted(uris("https://example.org/agent/a1"))),
    ),
    "another label": (
        Reason.LABEL_MISMATCH,
        lambda: identify(mislabelled(OURS, AGENT, "a2").certificate),
    ),
    "RSA of 1024 bits": (
        Reason.WEAK_KEY,
        lambda: by_key(rsa.generate_private_key(65537, 1024)),
    ),
    "RSA of one bit too few": (
        Reason.WEAK_KEY,
        lambda: by_key(rsa.generate_private_key(65537, 2047)),
    ),
    "a curve below P-256": (
        Reason.WEAK_KEY,
        lambda: by_key(ec.generate_private_key(ec.SECP224R1())),
    ),
    "a curve that TLS does not sign with": (
        Reason.WEAK_KEY,
        lambda: by_key(ec.generate_private_key(ec.SECP256K1())),
    ),
    "DSA": (Reason.WEAK_KEY, lambda: by_key(dsa.generate_private_key(2048))),
    "a trusted authority of RSA of 1024 bits": (Reason.WEAK_KEY, below_a_weak_authority),
    "signed with SHA-224": (
        Reason.WEAK_SIGNATURE,
        lambda: by_key(stranger_key(), hashes.SHA224()),
    ),
    "signed with SHA-1": (Reason.WEAK_SIGNATURE, lambda: identify(signed_with_sha1())),
    "an intermediate signed with SHA-1": (
        Reason.WEAK_SIGNATURE,
        lambda: certificate_chain.identify(
            Presented(credentials(OURS, AGENT).certificate, (signed_with_sha1(),)),
            (OURS.certificate,),
            Role.DIALS,
            time.time(),
        ),
    ),
    "an authority below ours": (
        # The path length of our authority is 0, so it may not certify other authorities.
        Reason.UNKNOWN_AUTHORITY,
        by_an_authority_below,
    ),
}


@pytest.mark.parametrize(("reason", "attempt"), CASES.values(), ids=list(CASES))
def test_each_way_to_be_refused_has_its_reason(
    reason: Reason, attempt: Callable[[], object]
) -> None:
    with pytest.raises(Refused) as refused:
        attempt()
    assert refused.value.reason == reason
    assert refused.value.message.startswith(f"{reason}: ")


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA of 2048 bits", "P-384", "Ed25519"],
)
def test_a_strong_key_of_another_kind_is_taken(key: object) -> None:
    assert by_key(key) == AGENT


def test_what_an_authority_signed_of_itself_is_not_looked_at() -> None:
    der = OURS.certificate.public_bytes(serialization.Encoding.DER)
    with_sha256, with_sha224 = (bytes.fromhex(f"2a8648ce3d0403{last}") for last in ("02", "01"))
    old = x509.load_der_x509_certificate(der.replace(with_sha256, with_sha224))
    assert old.signature_hash_algorithm is not None
    assert old.signature_hash_algorithm.name == "sha224"
    leaf = credentials(OURS, AGENT).certificate
    assert (
        certificate_chain.identify(Presented(leaf, (old,)), (old,), Role.DIALS, time.time())
        == AGENT
    )


def test_an_unknown_critical_extension_is_not_ignored() -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")

    def adding(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        return uris(AGENT.uri)(builder).add_extension(strange, critical=True)

    with pytest.raises(Refused, match="critical extension"):
        identify(crafted(adding))


def test_without_a_trusted_authority_nobody_is_anybody() -> None:
    leaf = credentials(OURS, AGENT).certificate
    with pytest.raises(Refused) as refused:
        certificate_chain.identify(Presented(leaf), (), Role.DIALS, time.time())
    assert refused.value.reason == Reason.UNKNOWN_AUTHORITY


def test_every_reason_can_happen() -> None:
    reasons = {reason for reason, _ in CASES.values()}
    elsewhere = {
        Reason.UNREADABLE,
        Reason.WRONG_TRUST_DOMAIN,
        Reason.WRONG_KIND,
        Reason.NOT_ALLOWED,
        Reason.TOO_MANY_LINKS,
    }
    assert reasons | elsewhere == set(Reason)
    assert len(admission.CHECKS) == 3
