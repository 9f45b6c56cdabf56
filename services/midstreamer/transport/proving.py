"""Proof, before anything is served, that nobody gets in without a certificate.

Each carrier has two of its connections meet in memory, with throwaway authorities.  Should a
change of a library turn what is enforced into nothing, this fails instead of letting everybody in.
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
    """This process would let strangers in, and therefore does not serve."""

    code = "self_test"


class Met(NamedTuple):
    """What came of a meeting."""

    server_was_reached: bool
    """The application of the server saw the client."""
    client_was_served: bool
    """The application of the client saw the server."""


Meet = Callable[[Credentials | None, Credentials], Met]
"""Lets a client and a server talk until nothing more is said."""


def prove(meet: Meet) -> None:
    """Raise SelfTestFailed unless strangers are refused and friends are not."""
    now_s = time.time()
    ours, theirs = (establish(_DOMAIN, now_s=now_s, days=1) for _ in range(2))
    agent, sync = _credentials(ours, Kind.AGENT), _credentials(ours, Kind.SYNC)
    if not all(meet(agent, sync)):
        raise SelfTestFailed("a client with a good certificate is refused")
    for name, client in (
        ("without a certificate", None),
        ("of another authority", _credentials(theirs, Kind.AGENT, trusting=ours)),
        ("with a server's certificate", _credentials(ours, Kind.SYNC)),
    ):
        if meet(client, sync).server_was_reached:
            raise SelfTestFailed(f"a client {name} gets in")
    for name, server in (
        ("of another authority", _credentials(theirs, Kind.SYNC, trusting=ours)),
        ("with a client's certificate", _credentials(ours, Kind.AGENT)),
    ):
        if meet(agent, server).client_was_served:
            raise SelfTestFailed(f"a server {name} is believed")


def _credentials(
    signer: Authority, kind: Kind, *, trusting: Authority | None = None
) -> Credentials:
    who = identity.make(_DOMAIN, kind, "x")
    issued = signer.certify(who, now_s=time.time(), days=1)
    anchors = ((trusting or signer).certificate,)
    return Credentials(who, issued.certificate, (), issued.key, anchors)
