"""Which agents are in reach, and which shards each of them reports; pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from midstreamer.domain.shard import Shard, fingerprint


@dataclass
class Agent:
    """What is known of one agent."""

    name: str
    position: int = 0
    shards: set[Shard] = field(default_factory=set)
    digest: int = 0
    """`domain.shard.digest` of them."""
    busy: int = 0
    asked: int = 0
    """Shards it was asked for and has not answered."""
    silent: int = 0
    """Attempts that are overdue: it may be dead, and its link not know yet."""


class Holders:
    """The agents by name, and the names by shard."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self._of: dict[Shard, set[str]] = {}

    def of(self, shard: Shard) -> Set[str]:
        """The names of those that report this shard."""
        return self._of.get(shard, frozenset())

    def known(self, name: str) -> Agent:
        """An agent that has reported now."""
        return self.agents.setdefault(name, Agent(name))

    def add(self, agent: Agent, shards: Iterable[Shard]) -> None:
        """It reports these as well."""
        for shard in shards:
            if shard not in agent.shards:
                agent.shards.add(shard)
                agent.digest ^= fingerprint(shard)
                self._of.setdefault(shard, set()).add(agent.name)

    def drop(self, agent: Agent, shards: Iterable[Shard]) -> None:
        """It reports these no longer."""
        for shard in shards:
            if shard in agent.shards:
                agent.shards.discard(shard)
                agent.digest ^= fingerprint(shard)
                holders = self._of[shard]
                holders.discard(agent.name)
                if not holders:
                    del self._of[shard]

    def forget(self, name: str) -> None:
        """It is out of reach, or is to be asked nothing more."""
        agent = self.agents.pop(name, None)
        if agent is not None:
            self.drop(agent, list(agent.shards))
