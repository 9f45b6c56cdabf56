"""The authority of an installation as a Secret, and the trusted authorities as a ConfigMap."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.cluster import kubernetes_names
from midstreamer.domain.errors import ConfigError
from midstreamer.security.authority import Authority, trust_domain_of
from midstreamer.security.files import pem_of

KEY, CERTIFICATE = "tls.key", "tls.crt"


def secret_name(release: str) -> str:
    """Return the name of the Secret with the key of an installation's authority."""
    return f"{release}-authority"


def secret(release: str, authority: Authority) -> dict[str, Any]:
    """Return the Secret that holds an authority: key and certificate."""
    key = authority.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(release)},
        "type": "kubernetes.io/tls",
        "data": {
            KEY: base64.b64encode(key).decode(),
            CERTIFICATE: base64.b64encode(pem_of([authority.certificate])).decode(),
        },
    }


def authority(given: Mapping[str, Any], trust_domain: str) -> Authority:
    """Read the authority in a Secret.

    Raise ConfigError when the Secret does not hold an authority of this trust domain.
    """
    named = (given.get("metadata") or {}).get("name")
    way_out = "restore it, or delete it: a new authority is then made, and all pods must restart"
    data = given.get("data") or {}
    try:
        key = serialization.load_pem_private_key(base64.b64decode(data[KEY]), password=None)
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data[CERTIFICATE]))
        is_pair = key.public_key() == certificate.public_key()
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"Secret {named} has no readable {KEY} and {CERTIFICATE} ({type(error).__name__});"
            f" {way_out}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_pair:
        raise ConfigError(
            f"Secret {named}: {KEY} is not the elliptic-curve key of {CERTIFICATE}; {way_out}"
        )
    found = trust_domain_of(certificate)
    if found != trust_domain:
        raise ConfigError(
            f"Secret {named} is the authority of trust domain {found!r}, but security.trust_domain"
            f" is {trust_domain!r}; set it to {found!r}, or {way_out}"
        )
    return Authority(trust_domain, certificate, key)


def bundle(release: str, trusted: Iterable[x509.Certificate]) -> dict[str, Any]:
    """Return the ConfigMap of the trusted authorities, also called the bundle."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": kubernetes_names.bundle(release)},
        "data": {kubernetes_names.BUNDLE_KEY: pem_of(trusted).decode()},
    }


def trusted(given: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    """Read the trusted authorities in a ConfigMap; raise ConfigError when they are unreadable."""
    text = (given.get("data") or {}).get(kubernetes_names.BUNDLE_KEY, "")
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode())) if text else ()
    except ValueError as error:
        named = (given.get("metadata") or {}).get("name")
        raise ConfigError(
            f"ConfigMap {named}: {kubernetes_names.BUNDLE_KEY} holds no readable certificates"
            f" ({error}); delete the ConfigMap, and the operator writes it again"
        ) from error
