"""Which shards this agent holds, and why: decided from what it is told, without asking anybody.

Every agent computes the owners of every shard from the list of live agents
(`domain.shard.owners`) and loads those that are its own.  A shard that is no longer its own is
kept until two other agents report it, so that while the fleet changes there are rather too many
copies than too few.  A shard counts as held, and is reported, once all its points are there.

Coordinators are dialled as they join and left when they have neither a lease nor a link.

No loop, no clock: events in, effects out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from midstreamer.domain.identity import Kind
from midstreamer.domain.shard import REPLICAS, Shard, owners, shards_of
from midstreamer.protocol.frames import Member

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surveyed:
    """The catalogue: points of each series, and positions in a shard."""

    counts: Mapping[str, int]
    shard_points: int


@dataclass(frozen=True)
class Joined:
    """Everybody with a live lease."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Grew:
    """A series has so many points now."""

    series: str
    count: int


@dataclass(frozen=True)
class Filled:
    """All points of a shard are there."""

    shard: Shard


@dataclass(frozen=True)
class Torn:
    """A held shard misses points."""

    shard: Shard


Event = Surveyed | Joined | Grew | Filled | Torn

# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Get the points of a shard, then say `Filled`."""

    shard: Shard


@dataclass(frozen=True)
class Drop:
    """Forget a shard."""

    shard: Shard


@dataclass(frozen=True)
class Report:
    """What is held has changed: tell every coordinator, and sync with the next renewal."""


@dataclass(frozen=True)
class Dial:
    """Keep a link to this coordinator."""

    address: str


Effect = Load | Drop | Report | Dial


# --- the core -----------------------------------------------------------------------------------


@dataclass
class Core:
    """One agent's view of the fleet; ``me`` is its name, ``agent/<id>``."""

    me: str
    shard_points: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    _agents: tuple[str, ...] = ()
    _own: set[Shard] = field(default_factory=set)
    _held: dict[Shard, bool] = field(default_factory=dict)
    """Every shard loaded or loading, and whether all its points are there."""
    _dialled: set[str] = field(default_factory=set)

    def handle(self, event: Event) -> list[Effect]:
        """Take one event in; say what is to be done."""
        match event:
            case Surveyed(counts, shard_points):
                self.shard_points = shard_points
                for series, count in counts.items():
                    self.counts[series] = max(count, self.counts.get(series, 0))
                self._own = self._owned(self.counts)
                return self._settle()
            case Joined(members):
                return self._join(members)
            case Grew(series, count):
                return self._grow(series, count)
            case Filled(shard):
                return self._mark(shard, whole=True)
            case Torn(shard):
                return [*self._mark(shard, whole=False), Load(shard)]

    @property
    def holdings(self) -> tuple[Shard, ...]:
        """The shards this agent can answer for."""
        return tuple(sorted(shard for shard, whole in self._held.items() if whole))

    @property
    def missing(self) -> list[Shard]:
        """Its own shards that it cannot answer for yet."""
        return sorted(shard for shard in self._own if not self._held.get(shard))

    def reset(self) -> None:
        """Forget every series and shard, as after a restart; the fleet is still known."""
        self.counts.clear()
        self._own.clear()
        self._held.clear()

    def hung_up(self, address: str) -> None:
        """A coordinator was left; it will be dialled again when it joins again."""
        self._dialled.discard(address)

    def leavable(self, address: str) -> bool:
        """Whether no member with a lease serves at an address."""
        return address not in {member.address for member in self._coordinators()}

    # --- what is mine ---

    def _owned(self, counts: Mapping[str, int]) -> set[Shard]:
        if not self.shard_points:
            return set()
        return {
            shard
            for series, count in counts.items()
            for shard in shards_of(series, count, self.shard_points)
            if self._mine(shard)
        }

    def _mine(self, shard: Shard) -> bool:
        return self.me in owners(shard, self._agents)

    def _join(self, members: tuple[Member, ...]) -> list[Effect]:
        self.members = members
        agents = {member.name for member in members if _kind(member) is Kind.AGENT}
        # Its own lease may not have arrived yet, or have lapsed: it is alive all the same.
        everybody = tuple(sorted(agents | {self.me}))
        if everybody != self._agents:
            self._agents = everybody
            self._own = self._owned(self.counts)
        addresses = {member.address for member in self._coordinators()} - self._dialled
        self._dialled |= addresses
        return [*(Dial(address) for address in sorted(addresses)), *self._settle()]

    def _coordinators(self) -> Iterable[Member]:
        return (m for m in self.members if _kind(m) is Kind.COORDINATOR and m.address)

    def _grow(self, series: str, count: int) -> list[Effect]:
        before = self.counts.get(series, 0)
        if count <= before or not self.shard_points:
            self.counts[series] = max(count, before)
            return []
        self.counts[series] = count
        begun = -(-before // self.shard_points)
        fresh = [s for s in shards_of(series, count, self.shard_points) if s.number >= begun]
        own = [shard for shard in fresh if self._mine(shard)]
        self._own.update(own)
        return self._load(own)

    # --- what is held ---

    def _settle(self) -> list[Effect]:
        """Load what is missing; drop what others hold well enough."""
        loads = self._load(sorted(self._own - self._held.keys()))
        spare = [shard for shard in self._held.keys() - self._own if self._spare(shard)]
        for shard in spare:
            del self._held[shard]
        drops: list[Effect] = [Drop(shard) for shard in sorted(spare)]
        return [*loads, *drops, Report()] if drops else loads

    def _load(self, shards: Iterable[Shard]) -> list[Effect]:
        effects: list[Effect] = []
        for shard in shards:
            if shard not in self._held:
                self._held[shard] = False
                effects.append(Load(shard))
        return effects

    def _spare(self, shard: Shard) -> bool:
        """Whether enough other agents report a shard."""
        reports = sum(
            shard in member.holdings
            for member in self.members
            if _kind(member) is Kind.AGENT and member.name != self.me
        )
        return reports >= REPLICAS

    def _mark(self, shard: Shard, *, whole: bool) -> list[Effect]:
        if shard not in self._held or self._held[shard] is whole:
            return []
        self._held[shard] = whole
        return [Report()]


def _kind(member: Member) -> Kind:
    return Kind(member.name.partition("/")[0])
