"""Self-test before serving: check that a carrier refuses peers without a valid certificate.

Each carrier connects a client and a server in memory, with certificates made for the test.  If a
new version of the TLS library no longer enforces certificates, the self-test fails and the process
does not serve, instead of accepting everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.security.authority import Authority, establish
from midstreamer.security.credentials import Credentials

_DOMAIN = "selftest.invalid"


class SelfTestFailed(MidstreamerError):
    """The carrier's check of certificates does not work, so this process does not serve."""

    code = "self_test"


class Met(NamedTuple):
    """Result of one connection between the test's client and server."""

    server_was_reached: bool
    """The server accepted the client: a link was opened on the server's side."""
    client_was_served: bool
    """The client accepted the server: a link was opened on the client's side."""


Meet = Callable[[Credentials | None, Credentials], Met]
"""Function that connects a client and a server, and moves their bytes until neither sends any more.
Its arguments are the client's credentials (None: no certificate) and the server's."""


def prove(meet: Meet) -> None:
    """Raise SelfTestFailed unless valid certificates are accepted and all others refused."""
    now_s = time.time()
    ours, theirs = (establish(_DOMAIN, now_s=now_s, days=1) for _ in range(2))
    agent, sync = _credentials(ours, Kind.AGENT), _credentials(ours, Kind.SYNC)
    if not all(meet(agent, sync)):
        raise SelfTestFailed("a client with a valid certificate is refused")
    for name, client in (
        ("without a certificate", None),
        ("of another authority", _credentials(theirs, Kind.AGENT, trusting=ours)),
        ("with a server's certificate", _credentials(ours, Kind.SYNC)),
    ):
        if meet(client, sync).server_was_reached:
            raise SelfTestFailed(f"a client {name} is accepted")
    for name, server in (
        ("of another authority", _credentials(theirs, Kind.SYNC, trusting=ours)),
        ("with a client's certificate", _credentials(ours, Kind.AGENT)),
    ):
        if meet(agent, server).client_was_served:
            raise SelfTestFailed(f"a server {name} is accepted")


def _credentials(
    signer: Authority, kind: Kind, *, trusting: Authority | None = None
) -> Credentials:
    who = identity.make(_DOMAIN, kind, "x")
    issued = signer.certify(who, now_s=time.time(), days=1)
    anchors = ((trusting or signer).certificate,)
    return Credentials(who, issued.certificate, (), issued.key, anchors)
