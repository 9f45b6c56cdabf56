"""Limits on leases: how many members may hold one, and how large a lease may be.

Every member receives the list of all leases, in the answer to a renewal and through the change
feed.  The list must fit into one frame, so the number of leases and the size of each are limited.
"""

from __future__ import annotations

from collections.abc import Collection

from midstreamer.domain.errors import BadInput, Overloaded
from midstreamer.protocol.capabilities import Capability
from midstreamer.protocol.frames import (
    EVIDENCE_BYTES_MAX,
    EVIDENCE_KEYS,
    EVIDENCE_KEYS_BASE,
    Member,
)

MEMBERS_MAX = 640
"""Largest value of the setting sync.members_max. This many leases of the largest size just fit into
one frame."""
TEXT_BYTES_MAX = 512
"""Maximum bytes of a member's name, incarnation and address together."""
DIGEST_BYTES_MAX = 64
"""Maximum bytes of `Member.whole_for`, which is a digest of names of agents."""
NUMBER_MAX = 2**63 - 1
"""Largest number allowed in a lease: the maximum of PostgreSQL's type bigint."""
RETRY_AFTER_S = 1.0
"""Seconds after which a member that was refused a lease may ask again."""


def check(
    member: Member,
    members: Collection[str],
    *,
    members_max: int,
    capabilities: Collection[str] = (),
) -> None:
    """Check the lease that a member asks for.

    ``members`` are the names of the members that hold a lease now.  Raise Overloaded when
    ``member`` is not one of them, and there are ``members_max`` of them already.  Raise BadInput
    when a field is too large or not allowed.  Without `Capability.EVIDENCE` among its
    ``capabilities``, a member may use only the evidence keys in `EVIDENCE_KEYS_BASE`.
    """
    full = Capability.EVIDENCE in capabilities
    _check_text(member)
    _check_evidence(member, EVIDENCE_KEYS if full else EVIDENCE_KEYS_BASE)
    _check_numbers(member)
    if member.name not in members and len(members) >= members_max:
        raise Overloaded(
            f"{len(members):,} members hold a lease, members_max={members_max:,}: {member.name}"
            " must wait until one leaves, or raise sync.members_max",
            retry_after_s=RETRY_AFTER_S,
        )


def _check_text(member: Member) -> None:
    size = len((member.name + member.incarnation + member.address).encode())
    if size > TEXT_BYTES_MAX:
        raise BadInput(
            f"the lease of {member.name[:80]}: name, incarnation and address take {size:,} B, at"
            f" most {TEXT_BYTES_MAX} B are allowed: shorten them"
        )
    for text in (member.incarnation, member.address, member.whole_for, *member.evidence.values()):
        if not text.isprintable():
            raise BadInput(
                f"the lease of {member.name}: the text {text[:80]!r} has characters that cannot be"
                " printed: leave them out"
            )
    if len(member.whole_for.encode()) > DIGEST_BYTES_MAX:
        raise BadInput(
            f"the lease of {member.name}: whole_for has {len(member.whole_for):,} characters, at"
            f" most {DIGEST_BYTES_MAX} are allowed: whole_for must be a digest"
        )


def _check_numbers(member: Member) -> None:
    for name in ("position", "held", "whole_at"):
        value = getattr(member, name)
        if not 0 <= value <= NUMBER_MAX:
            raise BadInput(
                f"the lease of {member.name}: {name} is {value}, only values from 0 to"
                f" {NUMBER_MAX} are allowed"
            )


def _check_evidence(member: Member, keys: Collection[str]) -> None:
    unknown = sorted(member.evidence.keys() - set(keys))
    if unknown:
        raise BadInput(
            f"the lease of {member.name}: the evidence key {unknown[0][:80]!r} is unknown: leave"
            f" it out; known keys are {', '.join(sorted(keys))}"
        )
    size = sum(len((key + value).encode()) for key, value in member.evidence.items())
    if size > EVIDENCE_BYTES_MAX:
        raise BadInput(
            f"the lease of {member.name}: the evidence takes {size:,} B, at most"
            f" {EVIDENCE_BYTES_MAX:,} B are allowed: shorten it"
        )
