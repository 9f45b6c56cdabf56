"""The local authority signs a request only for the key and the identity that the request names."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from midstreamer.domain.errors import BadInput
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import certificate_chain, requested_credentials
from midstreamer.security.authority import USAGES
from midstreamer.security.certificate_chain import Presented, Role
from tests.support.identity_builders import an_authority, stranger_key, who

AGENT = who(Kind.AGENT, "a1")
KEY, SHA256 = stranger_key(), hashes.SHA256()
SIGNER = an_authority()


def uri(identity: Identity = AGENT) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(identity.uri)


def a_request(
    key: Any = KEY, *names: x509.GeneralName, digest: Any = SHA256
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, digest)


def signed(request: x509.CertificateSigningRequest, identity: Identity = AGENT) -> Any:
    return SIGNER.sign(request, identity, now_s=time.time(), days=1)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_request_of_each_kind_is_certified_for_what_that_kind_does(kind: Kind) -> None:
    identity = who(kind)
    request = x509.load_pem_x509_csr(requested_credentials.request(KEY, identity))
    leaf = signed(request, identity)
    assert leaf.public_key() == KEY.public_key()
    for role in Role:
        if role.value in USAGES[kind]:
            shown = Presented(leaf)
            found = certificate_chain.identify(shown, [SIGNER.certificate], role, time.time())
            assert found == identity


def test_what_is_signed_says_the_same_as_what_is_certified() -> None:
    theirs, ours = signed(a_request(KEY, uri())), SIGNER.certify(AGENT, now_s=time.time(), days=1)
    assert theirs.subject == ours.certificate.subject
    assert list(theirs.extensions) == list(ours.certificate.extensions)
    difference = abs(theirs.not_valid_after_utc - ours.certificate.not_valid_after_utc)
    assert difference < dt.timedelta(minutes=1)


@pytest.mark.parametrize(
    ("key", "digest", "what"),
    [
        (rsa.generate_private_key(65537, 1024), hashes.SHA256(), "RSA key has 1024 bits"),
        (ec.generate_private_key(ec.SECP192R1()), hashes.SHA256(), "curve secp192r1"),
        (dsa.generate_private_key(2048), hashes.SHA256(), "neither of RSA nor"),
        (KEY, hashes.SHA224(), "signed with sha224"),
    ],
    ids=["small-rsa", "small-curve", "dsa", "sha224"],
)
def test_a_weak_request_is_not_signed(key: Any, digest: Any, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        signed(a_request(key, uri(), digest=digest))


def test_a_request_with_a_key_of_another_strong_kind_is_signed() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert signed(a_request(key, uri(), digest=None)).public_key() == key.public_key()


def test_a_request_that_another_key_signed_is_not_signed() -> None:
    request = bytearray(a_request(KEY, uri()).public_bytes(Encoding.DER))
    request[-1] ^= 1
    with pytest.raises(BadInput, match="not signed by its own key"):
        signed(x509.load_der_x509_csr(bytes(request)))


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ([], r"0 URIs; it must ask for spiffe://test.local/agent/a1 alone"),
        ([uri(), uri(who(Kind.SYNC))], "2 URIs"),
        ([uri(who(Kind.SYNC))], r"'spiffe://test.local/sync/x1', not for spiffe"),
        ([uri(), x509.DNSName("bank.example")], "1 names besides"),
    ],
)
def test_a_request_for_other_names_is_not_signed(names: list[Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        signed(a_request(KEY, *names))


def test_a_request_for_an_identity_of_another_domain_is_not_signed() -> None:
    stranger = who(Kind.AGENT, domain="other.local")
    with pytest.raises(BadInput, match=r"other\.local"):
        signed(a_request(KEY, uri(stranger)), stranger)


def test_what_else_a_request_asks_for_is_not_granted() -> None:
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([uri()]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(KEY, hashes.SHA256())
    )
    constraints = certificate_chain.extension(signed(request), x509.BasicConstraints)
    assert constraints is not None
    assert not constraints.ca


def test_a_request_with_a_kind_of_name_that_nobody_reads_is_not_signed() -> None:
    party = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3007a505a1030c0161")
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(party, critical=False)
        .sign(KEY, hashes.SHA256())
    )
    with pytest.raises(BadInput, match="cannot be read"):
        signed(request)


HOSTS = ("postgres", "postgres.fleet.svc")


def test_a_request_gets_the_host_names_that_it_may_have_and_asks_for() -> None:
    database = who(Kind.POSTGRES, "p1")
    request = a_request(KEY, uri(database), x509.DNSName("postgres"))
    leaf = SIGNER.sign(request, database, now_s=time.time(), days=1, dns_names=HOSTS)
    names = certificate_chain.extension(leaf, x509.SubjectAlternativeName)
    assert list(names or ()) == [uri(database), x509.DNSName("postgres")]
    shown = Presented(leaf)
    found = certificate_chain.identify(shown, [SIGNER.certificate], Role.SERVES, time.time())
    assert found == database


def test_a_request_for_a_host_name_that_it_may_not_have_is_not_signed() -> None:
    database = who(Kind.POSTGRES, "p1")
    request = a_request(KEY, uri(database), x509.DNSName("postgres"), x509.DNSName("bank.example"))
    with pytest.raises(BadInput, match=r"1 names besides .* carry the URI and postgres, postgres"):
        SIGNER.sign(request, database, now_s=time.time(), days=1, dns_names=HOSTS)
