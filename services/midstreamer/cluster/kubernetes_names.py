"""Names in Kubernetes that pods, administrators and the operator must agree on."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from midstreamer.domain.identity import Kind
from midstreamer.security.authority import USAGES

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
"""API path of certificate signing requests, which belong to no namespace."""
BUNDLE_KEY = "trust.pem"
"""Key of the trust ConfigMap that holds the certificates of the trusted authorities."""
POD_NAME = "authentication.kubernetes.io/pod-name"
"""Key under which the API server writes into a signing request the name of the pod whose token
sent the request."""
POD_UID = "authentication.kubernetes.io/pod-uid"
"""Key under which the API server writes into a signing request the uid of the pod whose token sent
the request."""

CLIENT = "client"
"""Value of the label `client_label`. A namespace that has the label with this value lets its pods
be clients."""
GROUP, CLIENT_IDENTITIES, USE = "midstreamer.dev", "clientidentities", "use"
"""API group, resource and verb of the right to be a client. An account may have the identity
``client/a`` if an RBAC role allows it the verb `USE` on the resource `CLIENT_IDENTITIES` with the
name ``a``."""

_NO_NAME = re.compile(r"[^a-z0-9-]+")
_WORDS: dict[x509.ObjectIdentifier, str] = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "client auth",
    ExtendedKeyUsageOID.SERVER_AUTH: "server auth",
}


def signer(namespace: str, release: str) -> str:
    """Return the name of the signer that certifies the members of one installation."""
    return f"midstreamer.dev/{namespace}.{release}.member"


def client_signer(namespace: str, release: str) -> str:
    """Return the name of the signer that certifies the clients of one installation."""
    return f"midstreamer.dev/{namespace}.{release}.client"


def signer_of(kind: Kind, namespace: str, release: str) -> str:
    """Return the name of the signer of an installation that certifies identities of a kind."""
    return (client_signer if kind is Kind.CLIENT else signer)(namespace, release)


def client_label(namespace: str, release: str) -> str:
    """Return the key of the label that marks the namespaces whose pods may be clients of an
    installation.

    Kubernetes allows 63 characters after the slash.  One of them is a dot, so ``namespace`` and
    ``release`` may have 62 characters together.
    """
    return f"midstreamer.dev/{namespace}.{release}"


def request_prefix(namespace: str, label: str) -> str:
    """Return the beginning of a signing request's name; the API server adds a random suffix."""
    return f"{namespace}.{_NO_NAME.sub('-', label.lower())}-"


def coordinators(namespace: str, release: str) -> str:
    """Return the DNS name, inside the cluster, that resolves to all coordinators."""
    return f"{release}-coordinator.{namespace}.svc"


def usages(kind: Kind) -> tuple[str, ...]:
    """Return the key usages of certificates of a kind, as signing requests spell them."""
    return ("digital signature", *(_WORDS[each] for each in USAGES[kind]))


def bundle(release: str) -> str:
    """Return the name of the ConfigMap that holds an installation's trusted authorities."""
    return f"{release}-trust"


def config_map(namespace: str, name: str) -> str:
    """Return the API path of one ConfigMap."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"
