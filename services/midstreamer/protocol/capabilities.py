"""What a peer understands beyond the frames that every version has: named in the handshake.

Both sides name their capabilities once, in AgentHandshake and CoordinatorAck.  A frame that needs
one is sent only to a peer that named it.  A peer of an older version names none; it is served with
what it knows.  That never lifts a bound: where a bound can be held only with a capability, a peer
without it is refused by name.

To add a frame that an older peer does not know: add a capability, and the frame to `NEEDS`.  To
add a kind of change: the same, and the kind to `CHANGE_NEEDS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from midstreamer.protocol import frames
from midstreamer.protocol.frames import Change, Frame


class Capability(StrEnum):
    """One thing that a peer can do."""

    DRAIN = "drain"
    """Understands Drain, and members whose evidence says that they are draining."""
    CANCEL = "cancel"
    """Ends the work for a request when it is told Cancel."""
    EVIDENCE = "evidence"
    """Takes leases with `frames.EVIDENCE_KEYS`, but for what `EVIDENCE_NEEDS` names, and lists
    members of kind sync."""
    OUTSIDE = "outside"
    """Takes leases that tell an address for those outside of the fleet's network."""
    RETIRE = "retire"
    """Answers Retire, and says in Fleet that a member has been asked to drain."""
    SCHEMES = "schemes"
    """Reads addresses that name carriers, as in `transport.address`."""
    TOLERANT = "tolerant"
    """Skips changes, and answers requests, of a kind that it does not know."""


OURS: tuple[str, ...] = tuple(sorted(Capability))
"""What this version names."""

NEEDS: dict[type[Frame], Capability] = {
    frames.Drain: Capability.DRAIN,
    frames.Cancel: Capability.CANCEL,
    frames.Retire: Capability.RETIRE,
}
"""Frames that go only to peers with a capability."""

EVIDENCE_NEEDS: dict[str, Capability] = {"outside": Capability.OUTSIDE}
"""Keys of a lease that go only to a sync with a capability: another refuses the whole lease."""

CHANGE_NEEDS: dict[type[Change], Capability] = {}
"""Changes that go only to peers with a capability; to others the position alone is told."""


def told(changes: Iterable[Change], capabilities: Iterable[str]) -> tuple[Change, ...]:
    """The changes that a peer with these capabilities is told, in their order.

    The others are left out, and their positions are reached all the same.
    """
    named = {"", *capabilities}
    return tuple(
        change
        for change in changes
        if not isinstance(change, frames.Skipped) and CHANGE_NEEDS.get(type(change), "") in named
    )


def lacking(frame: Frame, capabilities: Iterable[str]) -> Capability | None:
    """The capability that a peer with these would need for this frame; None: it may be sent."""
    needed = NEEDS.get(type(frame))
    return None if needed is None or needed in capabilities else needed
