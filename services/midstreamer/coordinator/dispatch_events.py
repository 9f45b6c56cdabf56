"""The events that `coordinator.dispatch` handles, and the effects that it returns."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.coordinator.search_batches import SHARDS_BYTES_MAX
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.shard import Shard

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Event: a request arrived.  Every one of its shards must be searched before its deadline."""

    key: int
    """Number of the request, chosen by the caller of `coordinator.dispatch`."""
    shards: tuple[Shard, ...]
    at_least: int
    """Feed position that the agents should have reached when they search."""
    deadline_s: float
    room: int = SHARDS_BYTES_MAX
    """Maximum number of bytes in a Search frame for the list of its shards."""


@dataclass(frozen=True)
class Withdrawn:
    """Event: the caller of a request no longer waits, so the request is dropped without a
    result."""

    key: int


@dataclass(frozen=True)
class Reported:
    """Event: an agent reports its feed position, the number of searches it has under way
    (``busy``), and which shards it holds or has dropped since its last report."""

    agent: str
    position: int
    shards: tuple[Shard, ...] = ()
    """Shards that the agent has come to hold since its last report."""
    busy: int = 0
    dropped: tuple[Shard, ...] = ()
    """Shards that the agent has ceased to hold since its last report."""
    count: int | None = None
    """Number of shards that the agent holds in all; None when more pages of the report follow."""
    digest: int = 0
    """`domain.shard.digest` of all shards that the agent holds."""


@dataclass(frozen=True)
class AgentLeaves:
    """Event: an agent is about to stop.  It still answers the Searches that it has got, but is
    sent no new ones."""

    agent: str


@dataclass(frozen=True)
class LinkLost:
    """Event: the connection to an agent ended."""

    agent: str


@dataclass(frozen=True)
class Answered:
    """Event: the agent answered the Search of an attempt."""

    attempt: int
    answer: object


@dataclass(frozen=True)
class Failed:
    """Event: an attempt failed, because its agent sent an error or the connection to the agent
    ended."""

    attempt: int
    error: MidstreamerError


@dataclass(frozen=True)
class Tick:
    """Event: time has passed.  Requests past their deadline fail; attempts may become overdue."""


Event = Asked | Withdrawn | Reported | AgentLeaves | LinkLost | Answered | Failed | Tick


# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Effect: send a Search for these shards to this agent."""

    attempt: int
    key: int
    agent: str
    shards: tuple[Shard, ...]
    deadline_s: float


@dataclass(frozen=True)
class Abandon:
    """Effect: cancel an attempt at its agent, because its answer is no longer needed."""

    attempt: int


@dataclass(frozen=True)
class Finish:
    """Effect: complete a request.  Together, ``answers`` cover each shard of the request once."""

    key: int
    answers: tuple[object, ...]


@dataclass(frozen=True)
class Fail:
    """Effect: fail a request with this error."""

    key: int
    error: MidstreamerError


@dataclass(frozen=True)
class HangUp:
    """Effect: close the link of an agent, because the coordinator found its report to be wrong.
    The agent then connects again and reports all its shards."""

    agent: str
    reason: str


Effect = Send | Abandon | Finish | Fail | HangUp
