"""Make the keys and certificates of a cluster's components, as files below STATE/pki."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=365)
SKEW = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def authority(pki: Path, name: str) -> Authority:
    """Make a certificate authority, write NAME.key and NAME.crt, and return it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name, ())
    builder = _builder(subject, subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    certificate = builder.sign(key, hashes.SHA256())
    _write(pki, name, key, certificate)
    return Authority(key, certificate)


def leaf(
    pki: Path,
    issuer: Authority,
    file: str,
    common_name: str,
    *,
    organizations: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    dns_names: tuple[str, ...] = (),
) -> None:
    """Make a key and a certificate for client and server use; write FILE.key and FILE.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name, organizations)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = _builder(subject, issuer.certificate.subject, key).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write(pki, file, key, builder.sign(issuer.key, hashes.SHA256()))


def service_account_key(pki: Path) -> None:
    """Make the keys for service account tokens: sa.key signs tokens, sa.pub verifies them."""
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(pki / "sa.key", key)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (pki / "sa.pub").write_bytes(public)


def read_authority(pki: Path, name: str) -> Authority:
    """Read a certificate authority from the files that `authority` wrote."""
    key = serialization.load_pem_private_key((pki / f"{name}.key").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate((pki / f"{name}.crt").read_bytes())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{pki / name}.key contains no elliptic-curve key")
    return Authority(key, certificate)


def _name(common_name: str, organizations: tuple[str, ...]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
    )


def _write(
    pki: Path, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    _write_key(pki / f"{file}.key", key)
    (pki / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
