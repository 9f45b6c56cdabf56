"""Who may say what to whom: the whole table, and nothing is allowed that is not in it.

    TABLE[(kind of the sender, kind of the receiver)] = the frames that may pass

A server admits only the kinds that connect to it (`accepts`), so most pairs never meet.  The
frames of the handshake are not here: `protocol.connection` knows when they are in order.  What a
frame says of its sender must be what the certificate says; `claim` finds those that differ.
"""

from __future__ import annotations

from midstreamer.domain.errors import quoted
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Frame

NOT_AUTHORISED = "not_authorised"
CLAIM_MISMATCH = "claim_mismatch"

OPENING: frozenset[type[Frame]] = frozenset(
    {frames.AgentHandshake, frames.CoordinatorAck, frames.Refusal}
)
"""Frames of the connection itself; they never reach a handler."""

OF_ANY_LINK: frozenset[type[Frame]] = frozenset({frames.Drain, frames.Cancel})
"""Frames about a link itself, and about the requests on it: either side of each pair says them."""

TABLE: dict[tuple[Kind, Kind], frozenset[type[Frame]]] = {
    # Users: history grows, windows are judged, what is stored is looked up.
    (Kind.CLIENT, Kind.COORDINATOR): frozenset(
        {frames.Append, frames.Match, frames.Lookup, frames.Survey, frames.Retire}
    ),
    (Kind.COORDINATOR, Kind.CLIENT): frozenset(
        {
            frames.Appended,
            frames.Matched,
            frames.Experiences,
            frames.Surveyed,
            frames.Retired,
            frames.Failure,
        }
    ),
    # An operator looks, and asks a member to drain. It has no lease.
    (Kind.OPERATOR, Kind.COORDINATOR): frozenset({frames.Lookup, frames.Survey, frames.Retire}),
    (Kind.COORDINATOR, Kind.OPERATOR): frozenset(
        {frames.Experiences, frames.Surveyed, frames.Retired, frames.Failure}
    ),
    (Kind.OPERATOR, Kind.SYNC): frozenset({frames.Lookup, frames.Survey, frames.Retire}),
    (Kind.SYNC, Kind.OPERATOR): frozenset(
        {frames.Experiences, frames.Surveyed, frames.Retired, frames.Failure}
    ),
    # Agents dial coordinators, tell what they hold, and are asked.
    (Kind.AGENT, Kind.COORDINATOR): frozenset({frames.Holdings, frames.Found, frames.Failure}),
    (Kind.COORDINATOR, Kind.AGENT): frozenset({frames.Search, frames.Failure}),
    # Agents read from sync; only coordinators write.
    (Kind.AGENT, Kind.SYNC): frozenset({frames.Renew, frames.Survey, frames.Load, frames.Tail}),
    (Kind.SYNC, Kind.AGENT): frozenset(
        {frames.Fleet, frames.Surveyed, frames.Loaded, frames.Changes, frames.Failure}
    ),
    (Kind.COORDINATOR, Kind.SYNC): frozenset(
        {
            frames.Write,
            frames.Renew,
            frames.Survey,
            frames.Lookup,
            frames.Load,
            frames.Recall,
            frames.Tail,
            frames.Retire,
        }
    ),
    (Kind.SYNC, Kind.COORDINATOR): frozenset(
        {
            frames.Written,
            frames.Fleet,
            frames.Surveyed,
            frames.Experiences,
            frames.Loaded,
            frames.Recalled,
            frames.Changes,
            frames.Retired,
            frames.Failure,
        }
    ),
}

DIALLED_BY: dict[Kind, frozenset[Kind]] = {
    Kind.COORDINATOR: frozenset({Kind.CLIENT, Kind.AGENT, Kind.OPERATOR}),
    Kind.SYNC: frozenset({Kind.COORDINATOR, Kind.AGENT, Kind.OPERATOR}),
}
"""Kinds that listen, and who connects to each; agents, clients and operators only dial."""


def allowed(sender: Kind, receiver: Kind) -> frozenset[type[Frame]]:
    """The frames that the table lets pass; none for kinds that never meet."""
    told = TABLE.get((sender, receiver))
    return frozenset() if told is None else told | OF_ANY_LINK


def accepts(server: Kind) -> frozenset[Kind]:
    """The kinds that may connect to a server of this kind."""
    return DIALLED_BY.get(server, frozenset())


def claim(sender: Identity, frame: Frame) -> str:
    """What the frame claims of its sender that its certificate does not say; empty when true."""
    if isinstance(frame, frames.Renew) and frame.member.name not in ("", sender.name):
        return f"{sender.name} asked for the lease of {quoted(frame.member.name)}"
    return ""
