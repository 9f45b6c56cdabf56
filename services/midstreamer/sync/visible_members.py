"""Decides which members of the fleet a peer may see; pure functions.

An older version expects only coordinators and agents in the list of members, and assumes that
every agent owns shards.  So a peer without `Capability.EVIDENCE` gets a list without syncs and
without draining agents; from that list it computes the same shard owners as the other members.  A
peer without `Capability.SCHEMES` cannot parse addresses that name carriers, so it gets plain
``host:port`` addresses.
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
"""To find a member with a similar name, this many characters of each name are compared at most. The
limit exists because the time to compare two names grows faster than their length."""
LIKENESS = 0.5
"""A refusal suggests a member ("did you mean …?") only if the names are at least this similar.
Equal names have the similarity 1, completely different ones 0."""


def visible(members: tuple[Member, ...], capabilities: Iterable[str]) -> tuple[Member, ...]:
    """Return the members that a peer with these capabilities may see."""
    known = frozenset(capabilities)
    if Capability.SCHEMES not in known:
        members = tuple(map(_over_quic, members))
    if Capability.EVIDENCE in known:
        return members
    return tuple(
        member for member in members if not (_is(member, Kind.SYNC) or _drains(member, Kind.AGENT))
    )


def _over_quic(member: Member) -> Member:
    """Return the member with a plain ``host:port`` address, which every version can parse.

    The address is empty when the member cannot be reached over QUIC.
    """
    if "://" not in member.address:
        return member
    try:
        where = address.parse(member.address)
    except ConfigError:
        return msgspec.structs.replace(member, address="")
    place = where.place if Scheme.QUIC in where.schemes else ""
    return msgspec.structs.replace(member, address=place)


def others(members: Iterable[Member], me: str) -> bool:
    """Return whether there is a sync other than ``me`` that is not draining."""
    return any(
        _is(member, Kind.SYNC) and member.name != me and not _drains(member) for member in members
    )


def unknown(name: str, members: Iterable[Member]) -> BadInput:
    """Return the error for a name that holds no lease; it suggests the most similar name."""
    names = {member.name[:COMPARED_CHARACTERS]: member.name for member in members}
    near = difflib.get_close_matches(name[:COMPARED_CHARACTERS], names, n=1, cutoff=LIKENESS)
    hint = f"did you mean {names[near[0]]}?" if near else "`midstreamer status` lists the members"
    return BadInput(f"{quoted(name)} holds no lease: {hint}")


def _is(member: Member, kind: Kind) -> bool:
    return member.name.startswith(f"{kind}/")


def _drains(member: Member, kind: Kind | None = None) -> bool:
    return member.evidence.get("stage") == Stage.DRAINING and (kind is None or _is(member, kind))
