"""A client in a pod: its identity, the address of its fleet, and how it gets a certificate."""

from __future__ import annotations

import re

from midstreamer.cluster import kubernetes_names, service_account
from midstreamer.cluster.api import Client
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.cluster.service_account import Account
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput
from midstreamer.domain.identity import Kind
from midstreamer.security.requested_credentials import RequestedSource

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def source(
    namespace: str, release: str, trust_domain: str, who: Account | None = None
) -> RequestedSource:
    """Return a credential source for this pod; its private key stays in memory.

    ``namespace`` and ``release`` are those of the fleet's Helm release.  ``who`` is the service
    account to use; None means the account of this pod.  Raise ConfigError outside a pod, and
    BadInput if ``namespace`` or ``release`` is not a valid name.
    """
    for what, name in (("namespace", namespace), ("release", release)):
        if not _NAME.match(name):
            raise BadInput(
                f"{what} {name!r} of the fleet is not valid: give the {what} that was passed to"
                " Helm, up to 63 lower-case letters, digits and '-'"
            )
    who = who or service_account.in_pod()
    pod, uid = who.pod()
    me = identity.make(trust_domain, Kind.CLIENT, f"{who.namespace}/{pod}/{uid}")
    api = Client(who, idle_max=0)  # keep no idle connection: a request is sent every few hours
    return RequestedSource(me, ClusterIssuer(api, namespace=namespace, release=release))


def address(namespace: str, release: str, port: int) -> str:
    """Return the ``host:port`` of a fleet's coordinators.  The name resolves to one address for
    each coordinator, and the client dials each of them separately."""
    return f"{kubernetes_names.coordinators(namespace, release)}:{port}"
