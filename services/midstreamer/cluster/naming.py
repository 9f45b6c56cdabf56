"""What pods, people and their signers must call by one name: signers, usages, trusted bundle."""

from __future__ import annotations

import re

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

CLIENT = "client"
"""The value of a namespace's label, below `client_label`, that lets its pods be clients."""
GROUP, CLIENT_IDENTITIES, USE = "midstreamer.dev", "clientidentities", "use"
"""Who may be ``client/<name>``: whoever may `USE` the `CLIENT_IDENTITIES` of that name."""

_NO_NAME = re.compile(r"[^a-z0-9-]+")
_WORDS: dict[x509.ObjectIdentifier, str] = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "client auth",
    ExtendedKeyUsageOID.SERVER_AUTH: "server auth",
}


def signer(namespace: str, release: str) -> str:
    """The signer of the members of one installation."""
    return f"midstreamer.dev/{namespace}.{release}.member"


def client_signer(namespace: str, release: str) -> str:
    """The signer of the clients of one installation."""
    return f"midstreamer.dev/{namespace}.{release}.client"


def signer_of(kind: Kind, namespace: str, release: str) -> str:
    """The signer of an installation that certifies a kind."""
    return (client_signer if kind is Kind.CLIENT else signer)(namespace, release)


def client_label(namespace: str, release: str) -> str:
    """The label of namespaces whose pods may be clients of one installation.

    Its last part may have 63 characters: so may ``namespace`` and ``release`` together, less one.
    """
    return f"midstreamer.dev/{namespace}.{release}"


def request_prefix(namespace: str, label: str) -> str:
    """What the name of a signing request begins with; the API server adds the rest."""
    return f"{namespace}.{_NO_NAME.sub('-', label.lower())}-"


def coordinators(namespace: str, release: str) -> str:
    """The DNS name that has the addresses of all coordinators, inside of the cluster."""
    return f"{release}-coordinator.{namespace}.svc"


def usages(kind: Kind) -> tuple[str, ...]:
    """The usages that a certificate of a kind has, as signing requests spell them."""
    return ("digital signature", *(_WORDS[each] for each in USAGES[kind]))


def bundle(release: str) -> str:
    """The ConfigMap with the trusted authorities of an installation."""
    return f"{release}-trust"


def config_map(namespace: str, name: str) -> str:
    """The path of one ConfigMap."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"
