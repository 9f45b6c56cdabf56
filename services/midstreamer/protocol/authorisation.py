"""Which frames one kind of process may send to another. Any frame not in the table is refused.

    TABLE[(kind of the sender, kind of the receiver)] = the frames that may be sent

A server accepts connections only from some kinds (`accepts`), so most pairs never meet.  Frames of
the handshake are not in the table: `protocol.connection` decides when they are allowed.  What a
frame claims about its sender must agree with the sender's certificate: `claim` checks that.
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
"""Frames that open and close a connection. They are never passed to a handler of requests."""

OF_ANY_LINK: frozenset[type[Frame]] = frozenset({frames.Drain, frames.Cancel})
"""Frames about the link and its requests. Either side of every pair in `TABLE` may send them."""

TABLE: dict[tuple[Kind, Kind], frozenset[type[Frame]]] = {
    # Clients append ticks, ask for decisions about windows, and look up what is stored.
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
    # An operator reads data, and asks members to drain. It has no lease.
    (Kind.OPERATOR, Kind.COORDINATOR): frozenset({frames.Lookup, frames.Survey, frames.Retire}),
    (Kind.COORDINATOR, Kind.OPERATOR): frozenset(
        {frames.Experiences, frames.Surveyed, frames.Retired, frames.Failure}
    ),
    (Kind.OPERATOR, Kind.SYNC): frozenset({frames.Lookup, frames.Survey, frames.Retire}),
    (Kind.SYNC, Kind.OPERATOR): frozenset(
        {frames.Experiences, frames.Surveyed, frames.Retired, frames.Failure}
    ),
    # Agents dial coordinators and report the shards they hold; coordinators send them searches.
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
"""For each kind of process that listens: the kinds that may connect to it. Agents, clients and
operators do not listen."""


def allowed(sender: Kind, receiver: Kind) -> frozenset[type[Frame]]:
    """Return the frames that ``sender`` may send to ``receiver``; none if the two never connect."""
    of_pair = TABLE.get((sender, receiver))
    return frozenset() if of_pair is None else of_pair | OF_ANY_LINK


def accepts(server: Kind) -> frozenset[Kind]:
    """Return the kinds that may connect to a server of this kind."""
    return DIALLED_BY.get(server, frozenset())


def claim(sender: Identity, frame: Frame) -> str:
    """Return an error if a frame names a sender other than the certified ``sender``; else ""."""
    if isinstance(frame, frames.Renew) and frame.member.name not in ("", sender.name):
        return f"{sender.name} asked for the lease of {quoted(frame.member.name)}"
    return ""
