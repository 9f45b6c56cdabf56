"""Builders for identities: authorities, valid and faulty certificates, carriers."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from midstreamer.domain import identity
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import authority, files
from midstreamer.security.authority import Authority
from midstreamer.security.credentials import Credentials, CredentialSource
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.files import AllowlistFile, CertificateManager
from midstreamer.transport.aioquic import QuicCarrier
from midstreamer.transport.carrier import Limits, Link, OnLink, Server
from midstreamer.transport.carriers import Carriers
from midstreamer.transport.carriers import build as build_carriers
from midstreamer.transport.certified_carrier import Watch
from midstreamer.transport.trust import Trust

DAY_S = 86_400.0
SCHEME = "quic"
"""The default carrier of an `Installation`. A test marked ``each_carrier`` runs once for each
carrier, and the fixture ``scheme`` sets this name to the carrier."""
DOMAIN = "test.local"


def who(kind: Kind, id: str = "x1", *, domain: str = DOMAIN) -> Identity:
    return identity.make(domain, kind, id)


def an_authority(domain: str = DOMAIN) -> Authority:
    return authority.establish(domain, now_s=time.time(), days=2)


def credentials(
    signer: Authority,
    holder: Identity,
    *,
    begins_in_s: float = 0.0,
    days: float = 1.0,
    trusting: Authority | None = None,
) -> Credentials:
    """Credentials of a process with this identity; they become valid in ``begins_in_s`` seconds."""
    issued = signer.certify(holder, now_s=time.time() + begins_in_s, days=days)
    anchors = ((trusting or signer).certificate,)
    return Credentials(holder, issued.certificate, (), issued.key, anchors)


def mislabelled(signer: Authority, holder: Identity, label: str) -> Credentials:
    """Credentials with one fault: the certificate's common name is ``label``, not the id."""
    good = credentials(signer, holder)
    leaf = good.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)]))
        .issuer_name(leaf.issuer)
        .public_key(leaf.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(signer.key, hashes.SHA256())
    return Credentials(holder, certificate, (), good.key, good.anchors)


def with_key(signer: Authority, holder: Identity, key: Any, digest: Any = None) -> Credentials:
    """Credentials that are valid except for their key, or for the hash of the signature."""
    leaf = credentials(signer, holder).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key.public_key())
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(signer.key, digest or hashes.SHA256())
    return Credentials(holder, certificate, (), key, (signer.certificate,))


def stranger_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Held(CertificateManager):
    """A certificate manager that returns the given credentials and reads no files."""

    def __init__(self, given: Credentials) -> None:
        super().__init__(Path(), given.identity)
        self._current = given

    def refresh(self) -> bool:
        return False


def quic_carrier(source: CredentialSource, limits: Limits | None = None) -> QuicCarrier:
    """A carrier that dials and serves QUIC only."""
    return QuicCarrier(Watch(Trust(source, limits or Limits(), secrets.token_hex(8))))


class OtherCarriers(Carriers):
    """Carriers that use another scheme than QUIC for an address without a scheme."""

    def __init__(self, source: CredentialSource, limits: Limits, scheme: str) -> None:
        super().__init__(Watch(Trust(source, limits, secrets.token_hex(8))))
        self._scheme = scheme

    async def dial(self, address: str, *, expect: Kind) -> Link:
        return await super().dial(self._by_scheme(address), expect=expect)

    async def serve(self, address: str, on_link: OnLink) -> Server:
        return await super().serve(self._by_scheme(address), on_link)

    def _by_scheme(self, address: str) -> str:
        return address if "://" in address else f"{self._scheme}://{address}"


@dataclass
class Installation:
    """An authority on disk, an allowlist, and carriers for its members."""

    directory: Path
    limits: Limits = field(default_factory=lambda: Limits(handshake_s=2.0, idle_s=2.0))
    scheme: str = ""
    """The carrier for addresses without a scheme; when empty, the default `SCHEME` applies."""

    def __post_init__(self) -> None:
        self.authority = files.init_authority(self.directory, DOMAIN, days=365)
        self.allowlist_path = self.directory / "allowlist"
        self.allow("coordinator/*", "agent/*", "sync/*", "client/*", "operator/*")

    def allow(self, *entries: str) -> None:
        files.write_allowlist(self.allowlist_path, list(entries))

    def carrier(self, holder: Identity | Credentials) -> Any:
        """Return a carrier with given credentials, or with new ones for a given identity.

        `authority` signs new credentials.
        """
        scheme = self.scheme or SCHEME
        if scheme == "quic":
            return quic_carrier(self.source(holder), self.limits)
        return OtherCarriers(self.source(holder), self.limits, scheme)

    def carriers(self, holder: Identity | Credentials) -> Carriers:
        """Return all carriers of one process."""
        return build_carriers(self.source(holder), limits=self.limits)

    def source(self, holder: Identity | Credentials) -> FileSource:
        """Return a source of the given credentials, or of new ones for a given identity."""
        if isinstance(holder, Identity):
            manager = CertificateManager(self.directory, holder)
            manager.load_or_generate()
        else:
            manager = Held(holder)
        allowlist = AllowlistFile(self.allowlist_path)
        return FileSource(manager, allowlist)


def behind_an_intermediate(holder: Identity, *, shown: bool = True) -> Credentials:
    """Credentials signed by an intermediate CA; ``shown`` adds the certificate of this CA."""
    now_s = time.time()
    root, between = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("root", "sub")]
    own = authority.establish(DOMAIN, now_s=now_s, days=365).certificate
    certificates = []
    for subject, key, signs_below in ((names[0], root, 1), (names[1], between, 0)):
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(own.not_valid_before_utc)
            .not_valid_after(own.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=True, path_length=signs_below), critical=True)
            .add_extension(own.extensions.get_extension_for_class(x509.KeyUsage).value, True)
            .add_extension(identifier, critical=False)
            .add_extension(issuer, critical=False)
        )
        certificates.append(builder.sign(root, hashes.SHA256()))
    issued = Authority(DOMAIN, certificates[1], between).certify(holder, now_s=now_s, days=1)
    others = (certificates[1],) if shown else ()
    return Credentials(holder, issued.certificate, others, issued.key, (certificates[0],))
