"""What pods and their signer must call by one name: signer, usages, trusted bundle."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from midstreamer.domain.identity import Kind
from midstreamer.security.authority import USAGES

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
"""Where the API server has signing requests; they belong to the cluster, not to a namespace."""
BUNDLE_KEY = "trust.pem"
"""The key of the ConfigMap below which the certificates of the trusted authorities are."""
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
"""Where the API server writes, into a request, which pod's token it came with."""

_WORDS: dict[x509.ObjectIdentifier, str] = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "client auth",
    ExtendedKeyUsageOID.SERVER_AUTH: "server auth",
}


def signer(namespace: str, release: str) -> str:
    """The signer of the members of one installation."""
    return f"midstreamer.dev/{namespace}.{release}.member"


def usages(kind: Kind) -> tuple[str, ...]:
    """The usages that a certificate of a kind has, as signing requests spell them."""
    return ("digital signature", *(_WORDS[each] for each in USAGES[kind]))


def bundle(release: str) -> str:
    """The ConfigMap with the trusted authorities of an installation."""
    return f"{release}-trust"


def config_map(namespace: str, name: str) -> str:
    """The path of one ConfigMap."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"
