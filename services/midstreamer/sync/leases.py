"""Who may take a lease, and what it may tell: a list of all leases must fit into a frame.

Every lease goes to every member, in the answer to a renewal and through the change feed.  So the
number of members is bounded, and so is each part of one.
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
"""Most that a setting may allow: so many of the largest leases are a little less than a frame."""
TEXT_BYTES_MAX = 512
"""Of the name, the incarnation and the address together."""
DIGEST_BYTES_MAX = 64
NUMBER_MAX = 2**63 - 1
RETRY_AFTER_S = 1.0


def check(
    member: Member,
    members: Collection[str],
    *,
    members_max: int,
    capabilities: Collection[str] = (),
) -> None:
    """Raise BadInput or Overloaded when a member may not have the lease it asks for.

    ``capabilities`` are the member's: without the one for evidence, it tells what it always did.
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
            f" most {TEXT_BYTES_MAX} B: shorten them"
        )
    for text in (member.incarnation, member.address, member.whole_for, *member.evidence.values()):
        if not text.isprintable():
            raise BadInput(
                f"the lease of {member.name}: {text[:80]!r} has characters that cannot be printed:"
                " leave them out"
            )
    if len(member.whole_for.encode()) > DIGEST_BYTES_MAX:
        raise BadInput(
            f"the lease of {member.name}: whole_for has {len(member.whole_for):,} characters, at"
            f" most {DIGEST_BYTES_MAX}: it is a digest"
        )


def _check_numbers(member: Member) -> None:
    for name in ("position", "held", "whole_at"):
        value = getattr(member, name)
        if not 0 <= value <= NUMBER_MAX:
            raise BadInput(
                f"the lease of {member.name}: {name} is {value}, from 0 to {NUMBER_MAX} is allowed"
            )


def _check_evidence(member: Member, keys: Collection[str]) -> None:
    unknown = sorted(member.evidence.keys() - set(keys))
    if unknown:
        raise BadInput(
            f"the lease of {member.name}: evidence {unknown[0][:80]!r} is not known, known are"
            f" {', '.join(sorted(keys))}: leave it out"
        )
    size = sum(len((key + value).encode()) for key, value in member.evidence.items())
    if size > EVIDENCE_BYTES_MAX:
        raise BadInput(
            f"the lease of {member.name}: evidence of {size:,} B, at most {EVIDENCE_BYTES_MAX:,} B:"
            " shorten it"
        )
