"""What can happen to a dispatch, and what it can want done: the words of `coordinator.dispatch`."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.coordinator.search_batches import SHARDS_BYTES_MAX
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.shard import Shard

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request arrived: these shards, by this deadline."""

    key: int
    shards: tuple[Shard, ...]
    at_least: int
    deadline_s: float
    room: int = SHARDS_BYTES_MAX
    """Bytes of shards that one attempt may ask for."""


@dataclass(frozen=True)
class Withdrawn:
    """Whoever asked is gone; nothing more is said about this request."""

    key: int


@dataclass(frozen=True)
class Reported:
    """An agent says what changed of what it holds, at which feed position, and how busy it is."""

    agent: str
    position: int
    shards: tuple[Shard, ...] = ()
    """Held as well now."""
    busy: int = 0
    dropped: tuple[Shard, ...] = ()
    count: int | None = None
    """How many it holds in all; None when more changes follow."""
    digest: int = 0
    """`domain.shard.digest` of all it holds."""


@dataclass(frozen=True)
class AgentLeaves:
    """An agent is about to stop: what it was asked it still answers."""

    agent: str


@dataclass(frozen=True)
class LinkLost:
    """The connection of an agent ended."""

    agent: str


@dataclass(frozen=True)
class Answered:
    """An attempt brought an answer."""

    attempt: int
    answer: object


@dataclass(frozen=True)
class Failed:
    """An attempt brought an error."""

    attempt: int
    error: MidstreamerError


@dataclass(frozen=True)
class Tick:
    """Time passed."""


Event = Asked | Withdrawn | Reported | AgentLeaves | LinkLost | Answered | Failed | Tick


# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Ask this agent for these shards."""

    attempt: int
    key: int
    agent: str
    shards: tuple[Shard, ...]
    deadline_s: float


@dataclass(frozen=True)
class Abandon:
    """Nobody needs the answer to this attempt any more: cancel it at its agent."""

    attempt: int


@dataclass(frozen=True)
class Finish:
    """Every shard is covered once by these answers."""

    key: int
    answers: tuple[object, ...]


@dataclass(frozen=True)
class Fail:
    """The request cannot be answered."""

    key: int
    error: MidstreamerError


@dataclass(frozen=True)
class HangUp:
    """What an agent says it holds is not what is known here: close its link, it will say all."""

    agent: str
    reason: str


Effect = Send | Abandon | Finish | Fail | HangUp
