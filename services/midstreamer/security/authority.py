"""A local certificate authority, for a laptop, for tests, or for a first installation.

It issues certificates for identities: `Authority.certify` also makes the key, `Authority.sign`
certifies a key that stays with its owner.  Keys made here are EC P-256.  `security.files` stores
keys and certificates.  In a Kubernetes cluster the operator signs instead, through the certificates
API.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from midstreamer.domain.errors import BadInput, ConfigError, quoted
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import certificate_chain

AUTHORITY_DAYS = 3650.0
"""Default validity of an authority's certificate, in days."""
LEAF_DAYS = 90.0
"""Default validity of an identity's certificate, in days."""
BACKDATED_S = 300
"""Seconds by which the start of a certificate's validity lies in the past, so that a peer whose
clock is slow accepts a new certificate."""

_DIALS = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_SERVES = (ExtendedKeyUsageOID.SERVER_AUTH,)
USAGES: dict[Kind, tuple[x509.ObjectIdentifier, ...]] = {
    Kind.COORDINATOR: _SERVES + _DIALS,  # serves clients and agents, dials sync
    Kind.SYNC: _SERVES,
    Kind.AGENT: _DIALS,
    Kind.CLIENT: _DIALS,
    Kind.OPERATOR: _DIALS,
    Kind.POSTGRES: _SERVES,
}
"""Extended key usages in the certificates of each kind: only those that the kind needs."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its private key.

    Keep the key safe: its holder can issue a certificate for any identity.
    """

    trust_domain: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certify(
        self,
        identity: Identity,
        *,
        now_s: float,
        days: float = LEAF_DAYS,
        dns_names: Collection[str] = (),
    ) -> Issued:
        """Make a new key and return it with a certificate for ``identity``.

        ``now_s`` is in seconds since 1970, ``dns_names`` are further names in the certificate.
        Raises BadInput for an identity of another trust domain.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = _names(identity, dns_names)
        return Issued(self._certificate(identity, key.public_key(), names, now_s, days), key)

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        identity: Identity,
        *,
        now_s: float,
        days: float = LEAF_DAYS,
        dns_names: Collection[str] = (),
    ) -> x509.Certificate:
        """Return a certificate for the key of a signing request (PKCS #10).

        The request must be signed by its own key, with strong algorithms.  It must name the URI of
        ``identity``, and otherwise only host names from ``dns_names``.  Anything else that it asks
        for is ignored: the certificate is like one of `certify`.  Raises BadInput if the request is
        not acceptable.
        """
        try:
            key, names = _requested(request, identity, dns_names)
            return self._certificate(identity, key, names, now_s, days)
        except (
            ValueError,
            TypeError,
            UnsupportedAlgorithm,
            x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType,
        ) as error:
            raise BadInput(f"the signing request cannot be read: {error}") from error

    def chain(self, leaf: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """Return the chain that the holder of ``leaf`` presents to peers.

        That is the leaf alone if this authority is a root, else the leaf and this authority.
        """
        is_root = self.certificate.issuer == self.certificate.subject
        return (leaf,) if is_root else (leaf, self.certificate)

    def _certificate(
        self,
        identity: Identity,
        key: CertificatePublicKeyTypes,
        names: x509.SubjectAlternativeName,
        now_s: float,
        days: float,
    ) -> x509.Certificate:
        if identity.trust_domain != self.trust_domain:
            raise BadInput(
                f"{identity.uri} is not in this authority's trust domain {self.trust_domain!r}"
            )
        builder = (
            _dated(now_s, days)
            .subject_name(_named(identity.label))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(USAGES[identity.kind]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(_issuer_key(self.key), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())


def _requested(
    request: x509.CertificateSigningRequest, identity: Identity, dns_names: Collection[str]
) -> tuple[CertificatePublicKeyTypes, x509.SubjectAlternativeName]:
    """Return (key, names) for the certificate of a signing request; BadInput if not acceptable."""
    if weak := certificate_chain.weakness_of_request(request):
        raise BadInput(f"the signing request of {identity.name} is too weak: {weak}")
    if not request.is_signature_valid:
        raise BadInput(
            f"the signing request of {identity.name} is not signed by its own key;"
            " make it again where the key is"
        )
    names = certificate_chain.extension(request, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:
        raise BadInput(
            f"the signing request asks for {len(uris)} URIs; it must ask for {identity.uri} alone"
        )
    if uris != [identity.uri]:
        raise BadInput(f"the signing request asks for {quoted(uris[0])}, not for {identity.uri}")
    hosts = names.get_values_for_type(x509.DNSName) if names else []
    others = len(list(names or ())) - 1 - sum(host in dns_names for host in hosts)
    if others:
        raise BadInput(
            f"the signing request asks for {others} names besides {identity.uri};"
            f" the certificate may carry {_granted(dns_names)}"
        )
    return request.public_key(), _names(identity, hosts)


def _granted(dns_names: Collection[str]) -> str:
    return f"the URI and {', '.join(sorted(dns_names))}" if dns_names else "the URI alone"


def establish(trust_domain: str, *, now_s: float, days: float = AUTHORITY_DAYS) -> Authority:
    """Return a new authority with a self-signed certificate, valid for ``days``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"{trust_domain} authority"[:64])
    builder = (
        _dated(now_s, days)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(_uri(f"spiffe://{trust_domain}"), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issuer_key(key), critical=False)
    )
    return Authority(trust_domain, builder.sign(key, hashes.SHA256()), key)


def trust_domain_of(certificate: x509.Certificate) -> str:
    """Return the trust domain that an authority's certificate names; ConfigError if it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        return uri.removeprefix("spiffe://")
    except (x509.ExtensionNotFound, ValueError) as error:
        raise ConfigError("the authority's certificate names no trust domain") from error


def _dated(now_s: float, days: float) -> x509.CertificateBuilder:
    now = dt.datetime.fromtimestamp(now_s, dt.UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=BACKDATED_S))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _named(label: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])


def _names(identity: Identity, hosts: Collection[str] = ()) -> x509.SubjectAlternativeName:
    uri = x509.UniformResourceIdentifier(identity.uri)
    return x509.SubjectAlternativeName([uri, *map(x509.DNSName, hosts)])


def _uri(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _issuer_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
