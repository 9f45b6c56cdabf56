"""Which agents are connected, and which shards each of them reports.  No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from midstreamer.domain.shard import Shard, fingerprint


@dataclass
class Agent:
    """What a coordinator knows of one connected agent."""

    name: str
    position: int = 0
    """Position of the change feed that the agent has reported."""
    shards: set[Shard] = field(default_factory=set)
    """Shards that the agent reports to hold."""
    digest: int = 0
    """`domain.shard.digest` of ``shards``."""
    busy: int = 0
    """Number of searches under way at the agent for all coordinators, as the agent last
    reported."""
    asked: int = 0
    """Number of shards that the agent was asked to search and has not answered yet."""
    silent: int = 0
    """Number of overdue attempts at the agent.  If there are any, the agent may be dead although
    its link is open."""


class Holders:
    """The connected agents by name, and for each shard the names of the agents that hold it."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self._of: dict[Shard, set[str]] = {}

    def of(self, shard: Shard) -> Set[str]:
        """Return the names of the agents that report this shard."""
        return self._of.get(shard, frozenset())

    def known(self, name: str) -> Agent:
        """Return the agent of this name.  An unknown agent is added, without shards."""
        return self.agents.setdefault(name, Agent(name))

    def add(self, agent: Agent, shards: Iterable[Shard]) -> None:
        """Record that an agent reports these shards in addition to those it reported before."""
        for shard in shards:
            if shard not in agent.shards:
                agent.shards.add(shard)
                agent.digest ^= fingerprint(shard)
                self._of.setdefault(shard, set()).add(agent.name)

    def drop(self, agent: Agent, shards: Iterable[Shard]) -> None:
        """Record that an agent no longer reports these shards."""
        for shard in shards:
            if shard in agent.shards:
                agent.shards.discard(shard)
                agent.digest ^= fingerprint(shard)
                holders = self._of[shard]
                holders.discard(agent.name)
                if not holders:
                    del self._of[shard]

    def forget(self, name: str) -> None:
        """Remove an agent that has disconnected or is about to stop."""
        agent = self.agents.pop(name, None)
        if agent is not None:
            self.drop(agent, list(agent.shards))
