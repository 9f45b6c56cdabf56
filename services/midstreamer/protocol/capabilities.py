"""Capabilities: what a peer understands beyond the frames that every version has.

Both sides list their capabilities in the handshake (AgentHandshake and CoordinatorAck).  A frame
that needs a capability is sent only to a peer that listed that capability.  A peer of an older
version lists none and gets only the frames that it knows.  No limit is relaxed for an older peer:
if a limit can be kept only with a capability, a peer without that capability is refused, and the
refusal names the capability.

To add a frame that an older peer does not know, add a capability, and add the frame to `NEEDS`.
To add a kind of change, add a capability, and add the kind to `CHANGE_NEEDS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from midstreamer.protocol import frames
from midstreamer.protocol.frames import Change, Frame


class Capability(StrEnum):
    """A feature of the protocol that a peer may support; the handshake lists those it supports."""

    DRAIN = "drain"
    """The peer understands the frame Drain, and evidence which says that a member is draining."""
    CANCEL = "cancel"
    """The peer stops the work for a request when it receives Cancel."""
    EVIDENCE = "evidence"
    """The peer accepts leases with all `frames.EVIDENCE_KEYS` except those in `EVIDENCE_NEEDS`. It
    also accepts lists of members that include syncs."""
    OUTSIDE = "outside"
    """The peer accepts leases that give an address for use from outside the fleet's network."""
    RETIRE = "retire"
    """The peer answers Retire. Its answer to Renew, a Fleet, says whether the member that sent the
    Renew has been asked to drain."""
    SCHEMES = "schemes"
    """The peer understands addresses that name carriers (`transport.address`)."""
    TOLERANT = "tolerant"
    """The peer skips unknown kinds of change, and answers unknown requests with Unsupported."""


OURS: tuple[str, ...] = tuple(sorted(Capability))
"""The capabilities that this version lists in its handshake, sorted."""

NEEDS: dict[type[Frame], Capability] = {
    frames.Drain: Capability.DRAIN,
    frames.Cancel: Capability.CANCEL,
    frames.Retire: Capability.RETIRE,
}
"""Frames that not every peer understands. Each is sent only to peers with the named capability."""

EVIDENCE_NEEDS: dict[str, Capability] = {"outside": Capability.OUTSIDE}
"""Evidence keys of a lease that only a sync with the named capability accepts. A sync without that
capability would refuse the whole lease."""

CHANGE_NEEDS: dict[type[Change], Capability] = {}
"""Kinds of change of the feed that not every peer understands. Each is sent only to peers with the
named capability; other peers get only the position of the change in the feed."""


def told(changes: Iterable[Change], capabilities: Iterable[str]) -> tuple[Change, ...]:
    """Return the changes that a peer with these capabilities understands, in their order.

    The other changes are left out.  The peer's position in the feed still moves past them.
    """
    named = {"", *capabilities}
    return tuple(
        change
        for change in changes
        if not isinstance(change, frames.Skipped) and CHANGE_NEEDS.get(type(change), "") in named
    )


def lacking(frame: Frame, capabilities: Iterable[str]) -> Capability | None:
    """Return the capability that this frame needs and the peer lacks; None: it may be sent."""
    needed = NEEDS.get(type(frame))
    return None if needed is None or needed in capabilities else needed
