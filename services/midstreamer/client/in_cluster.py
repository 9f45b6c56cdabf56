"""A client in a pod: who it is, where its fleet is, and a certificate that it asks for itself."""

from __future__ import annotations

import re

from midstreamer.cluster import account, naming
from midstreamer.cluster.account import Account
from midstreamer.cluster.api import Client
from midstreamer.cluster.requesting import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput
from midstreamer.domain.identity import Kind
from midstreamer.security.requested import RequestedSource

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def source(
    namespace: str, release: str, trust_domain: str, who: Account | None = None
) -> RequestedSource:
    """Credentials of this pod for a fleet, with a key in memory; ConfigError outside of a pod.

    ``namespace`` and ``release`` are the fleet's, as Helm was told.
    """
    for what, name in (("namespace", namespace), ("release", release)):
        if not _NAME.match(name):
            raise BadInput(
                f"{what} {name!r} of the fleet: give the name that Helm was told, up to 63 small"
                " letters, digits and '-'"
            )
    who = who or account.in_pod()
    pod, uid = who.pod()
    me = identity.make(trust_domain, Kind.CLIENT, f"{who.namespace}/{pod}/{uid}")
    api = Client(who, idle_max=0)  # it is used once in hours
    return RequestedSource(me, ClusterIssuer(api, namespace=namespace, release=release))


def address(namespace: str, release: str, port: int) -> str:
    """Where all coordinators of a fleet are: each address of the name is dialled by itself."""
    return f"{naming.coordinators(namespace, release)}:{port}"
