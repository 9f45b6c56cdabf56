"""Proof, before anything is served, that TLS lets nobody through without a certificate.

Two ends exchange bytes in memory, with throwaway authorities; about 10 ms.  Whom TLS lets through
is judged afterwards; that judging is the same for each carrier, and is part of this proof.
"""

from __future__ import annotations

import time

from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.security import chain
from midstreamer.security.authority import Authority, establish
from midstreamer.security.chain import Role
from midstreamer.security.credentials import Credentials
from midstreamer.transport.websocket import tls
from midstreamer.transport.websocket.tls import Tls

_DOMAIN = "selftest.invalid"
_ROUNDS = 6
_done: list[bool] = []


class SelfTestFailed(MidstreamerError):
    """This process would let strangers in, and therefore does not serve."""

    code = "self_test"


def self_test() -> None:
    """Raise SelfTestFailed unless strangers are refused and friends are not. Once per process."""
    if _done:
        return
    now_s = time.time()
    ours, theirs = (establish(_DOMAIN, now_s=now_s, days=1) for _ in range(2))
    agent, sync = _credentials(ours, Kind.AGENT), _credentials(ours, Kind.SYNC)
    if not all(_meet(agent, sync)):
        raise SelfTestFailed("a client with a good certificate is refused over wss")
    for name, client in (
        ("without a certificate", None),
        ("of another authority", _credentials(theirs, Kind.AGENT, trusting=ours)),
        ("with a server's certificate", _credentials(ours, Kind.SYNC)),
    ):
        if _meet(client, sync)[1]:
            raise SelfTestFailed(f"a client {name} gets in over wss")
    for name, server in (
        ("of another authority", _credentials(theirs, Kind.SYNC, trusting=ours)),
        ("with a client's certificate", _credentials(ours, Kind.AGENT)),
    ):
        if _meet(agent, server)[0]:
            raise SelfTestFailed(f"a server {name} is believed over wss")
    _done.append(True)


def _meet(client: Credentials | None, server: Credentials) -> tuple[bool, bool]:
    """Whether each side takes the other, the dialling one first."""
    near = Tls(tls.context(client, server_side=False), server_side=False)
    far = Tls(tls.context(server, server_side=True), server_side=True)
    anchors = server.anchors
    try:
        near.start()
        for _ in range(_ROUNDS):
            far.receive(near.take())
            near.receive(far.take())
    except Refused:
        return False, False
    return _takes(near, anchors, Role.SERVES), _takes(far, anchors, Role.DIALS)


def _takes(end: Tls, anchors: tuple[object, ...], role: Role) -> bool:
    try:
        chain.identify(end.presented, anchors, role, time.time())  # type: ignore[arg-type]
    except Refused:
        return False
    return end.ready


def _credentials(
    signer: Authority, kind: Kind, *, trusting: Authority | None = None
) -> Credentials:
    who = identity.make(_DOMAIN, kind, "x")
    issued = signer.certify(who, now_s=time.time(), days=1)
    anchors = ((trusting or signer).certificate,)
    return Credentials(who, issued.certificate, (), issued.key, anchors)
