"""Which members a peer is told of; pure.

A version before this one lists coordinators and agents only, and takes every agent for one that
owns shards.  So a peer without the capability is not told of syncs, nor of agents that drain: it
then computes the same owners of shards as everybody else.  Nor does it read addresses that name
carriers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

from midstreamer.domain.errors import BadInput, ConfigError, quoted
from midstreamer.domain.identity import Kind
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import Member
from midstreamer.runtime.lifecycle import Stage
from midstreamer.transport import address
from midstreamer.transport.address import Scheme

COMPARED_CHARACTERS = 64
"""Of an unknown name and of each member's: comparing takes longer than in proportion."""
LIKENESS = 0.5


def visible(members: tuple[Member, ...], capabilities: Iterable[str]) -> tuple[Member, ...]:
    """Those of the members that a peer with these capabilities is told of."""
    known = frozenset(capabilities)
    if Capability.SCHEMES not in known:
        members = tuple(map(_over_quic, members))
    if Capability.EVIDENCE in known:
        return members
    return tuple(one for one in members if not (_is(one, Kind.SYNC) or _drains(one, Kind.AGENT)))


def _over_quic(member: Member) -> Member:
    """A member with its address as all versions read it; none where QUIC does not lead to it."""
    if "://" not in member.address:
        return member
    try:
        where = address.parse(member.address)
    except ConfigError:
        return msgspec.structs.replace(member, address="")
    place = where.place if Scheme.QUIC in where.schemes else ""
    return msgspec.structs.replace(member, address=place)


def others(members: Iterable[Member], me: str) -> bool:
    """Whether another sync serves, so that peers can go there."""
    return any(_is(one, Kind.SYNC) and one.name != me and not _drains(one) for one in members)


def unknown(name: str, members: Iterable[Member]) -> BadInput:
    """The refusal to do something with a member that has no lease."""
    names = {one.name[:COMPARED_CHARACTERS]: one.name for one in members}
    near = difflib.get_close_matches(name[:COMPARED_CHARACTERS], names, n=1, cutoff=LIKENESS)
    hint = f"did you mean {names[near[0]]}?" if near else "`midstreamer status` lists who has one"
    return BadInput(f"{quoted(name)} holds no lease: {hint}")


def _is(member: Member, kind: Kind) -> bool:
    return member.name.startswith(f"{kind}/")


def _drains(member: Member, kind: Kind | None = None) -> bool:
    return member.evidence.get("stage") == Stage.DRAINING and (kind is None or _is(member, kind))
