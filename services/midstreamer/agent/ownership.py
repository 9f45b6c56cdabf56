"""Decide which shards this agent holds, from the leases and the change feed alone.

Every agent computes the two owners of every shard from the list of live agents
(`domain.shard.owned`), and loads the shards that it owns.  A shard is *whole* once all its points
are loaded; then the agent reports it.  A shard that the agent no longer owns is kept until both
owners hold it, so a change of the fleet never leaves too few copies.

Leases do not list shards.  When an agent holds all shards that it owns, its lease has the digest of
the list of agents from which it computed the owners, and the feed position that it had reached.
Another agent that had the same list at that position can compute which shards the first agent
holds.  The position is needed because the same list may occur twice, for example when agent 4 joins
and leaves again: a lease may still refer to the first time.

A draining agent owns nothing: all agents, also the draining one, compute the owners without it. It
keeps its shards and answers searches of them until the other agents hold all of them.

The agent dials a coordinator that joins, and forgets one that has neither a lease nor a link.

No event loop and no clock: events go in, effects come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from midstreamer.domain.identity import Kind
from midstreamer.domain.shard import (
    Shard,
    agents_digest,
    fingerprint,
    owned,
    owners_of,
    shards_of,
)
from midstreamer.protocol.frames import Member
from midstreamer.runtime.lease_evidence import where

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surveyed:
    """Event: sync has listed all series, as of ``position`` in the feed, with their numbers of
    points.  ``shard_points`` is the number of window positions in one shard."""

    counts: Mapping[str, int]
    shard_points: int
    position: int = 0


@dataclass(frozen=True)
class Joined:
    """Event: a list of the members that hold a lease.  ``position`` is the feed position at which
    sync read the list, or `TOLD` if the list came from the change feed."""

    members: tuple[Member, ...]
    position: int


@dataclass(frozen=True)
class Grew:
    """Event: points arrived; ``counts`` has the present length of each series with new points."""

    counts: Mapping[str, int]


@dataclass(frozen=True)
class Reached:
    """Event: this agent has applied the change feed up to a position."""

    position: int


@dataclass(frozen=True)
class Filled:
    """Event: all points of a shard are loaded, so the shard is whole."""

    shard: Shard


@dataclass(frozen=True)
class Torn:
    """Event: a shard that was whole now misses points, because the feed skipped some."""

    shard: Shard


@dataclass(frozen=True)
class Draining:
    """Event: this agent starts to drain, because it is about to stop."""


Event = Surveyed | Joined | Grew | Reached | Filled | Torn | Draining

TOLD = -1
"""Value of `Joined.position` if the change feed brought the list of members.  This agent always
accepts such a list, because the feed sends all lists in order."""

# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Effect: load the points of a shard, then handle the event `Filled`."""

    shard: Shard


@dataclass(frozen=True)
class Drop:
    """Effect: remove a shard from memory."""

    shard: Shard


@dataclass(frozen=True)
class Report:
    """Effect: report to every coordinator that a shard became whole, or ceased to be whole."""

    shard: Shard
    whole: bool


@dataclass(frozen=True)
class Renew:
    """Effect: renew this agent's lease soon, because its content has changed."""


@dataclass(frozen=True)
class Dial:
    """Effect: open a link to the coordinator at this address, and keep it open."""

    address: str


@dataclass(frozen=True)
class Drained:
    """Effect: end the drain, because the owners hold all shards, or there is no other agent."""


Effect = Load | Drop | Report | Renew | Dial | Drained


# --- the core -----------------------------------------------------------------------------------


@dataclass
class Core:
    """What one agent knows of the fleet; ``me`` is its name, ``agent/<id>``."""

    me: str
    shard_points: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    count: int = 0
    """Number of shards that are whole (fully loaded)."""
    digest: int = 0
    """The result of `domain.shard.digest` for all shards that are whole (fully loaded)."""
    whole_for: str = ""
    """Digest of the list of agents from which this agent computed the shards that it owns.  Empty
    until it has fully loaded these shards.  Its lease has the same digest: see `Member`."""
    whole_at: int = 0
    _position: int = -1
    _agents: tuple[str, ...] = ()
    _listed: str = ""
    """Digest of ``_agents``, the agents among which the shards are divided."""
    _listed_at: int | None = None
    """Leases with digest ``_listed`` are ignored if their ``whole_at`` is below this feed position:
    they may be from an earlier time with the same agents.  It is the first position that this agent
    reached after it got the list ``_agents``; None until then.  `_drain` may set a lower one."""
    _listed_from: int = 0
    """Feed position at which the list ``_agents`` was read; `TOLD` if the feed brought it."""
    _own: set[Shard] = field(default_factory=set)
    _lacking: set[Shard] = field(default_factory=set)
    """Shards that this agent owns and that are not whole."""
    _held: dict[Shard, bool] = field(default_factory=dict)
    """Every shard that this agent has loaded or is loading, and whether it is whole."""
    _foreign: set[Shard] = field(default_factory=set)
    """Shards in ``_held`` that other agents own."""
    _joined_at: int | None = None
    """First feed position that this agent reached after its own lease was listed; None before."""
    _grown_at: int | None = 0
    """A feed position at which every known shard had at least one point.  When a new shard appears,
    this is None until the agent reaches the next feed position, which is then the new value."""
    _present: bool = False
    """Whether this agent's own lease is in the last list of members."""
    _dialled: set[str] = field(default_factory=set)
    _draining: bool = False
    _drained: bool = False
    _left: int = 0
    _left_for: object = None
    """The values from which ``_left`` was computed.  While they are the same, ``_left`` is kept."""

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and return the effects to carry out."""
        match event:
            case Surveyed():
                return self._survey(event)
            case Joined(members, position):
                return self._join(members, position)
            case Grew(counts):
                return self._grow(counts)
            case Reached(position):
                return self._reach(position)
            case Filled(shard):
                return [*self._mark(shard, whole=True), *self._whole()]
            case Torn(shard):
                return [*self._mark(shard, whole=False), *self._unwhole(), Load(shard)]
            case Draining():
                return self._drain()

    @property
    def holdings(self) -> tuple[Shard, ...]:
        """The shards of this agent that are whole (fully loaded), sorted."""
        return tuple(sorted(shard for shard, whole in self._held.items() if whole))

    @property
    def lacking(self) -> int:
        """Number of shards that this agent owns and that are not whole yet."""
        return len(self._lacking)

    @property
    def missing(self) -> list[Shard]:
        """The shards that this agent owns and that are not whole yet, sorted."""
        return sorted(self._lacking)

    @property
    def understood(self) -> bool:
        """Whether all other agents have versions that understand the lease of a draining agent."""
        agents = (member for member in self.members if _kind(member) is Kind.AGENT)
        return all("stage" in member.evidence for member in agents if member.name != self.me)

    @property
    def left(self) -> int:
        """How many loaded shards of this draining agent are not held yet by all new owners."""
        return self._count_left() if self._draining and self._agents else 0

    def reset(self) -> None:
        """Forget every series and shard, as after a restart, but keep the members."""
        self.counts.clear()
        self._own.clear()
        self._lacking.clear()
        self._held.clear()
        self._foreign.clear()
        self.count = self.digest = self.shard_points = 0
        self._position, self._listed_at = -1, None
        self._joined_at, self._grown_at = None, 0
        self._unwhole()

    def hung_up(self, address: str) -> None:
        """Record that this agent no longer keeps a link to a coordinator.  If the coordinator
        joins again, the agent dials it again."""
        self._dialled.discard(address)

    def leavable(self, address: str) -> bool:
        """Return whether a link to this address may be dropped: no lease names the address."""
        return address not in {where(member) for member in self.members}

    # --- these methods handle events that change which shards this agent owns ---

    def _survey(self, event: Surveyed) -> list[Effect]:
        self.shard_points = event.shard_points
        self._position = max(self._position, event.position)
        self._grown_at = None if self._grown_at is None else max(self._grown_at, event.position)
        for series, count in event.counts.items():
            self.counts[series] = max(count, self.counts.get(series, 0))
        self._divide()
        return [*self._load_own(), *self._drop(), *self._whole()]

    def _divide(self) -> None:
        """Compute again which shards this agent owns."""
        mine: list[Shard] = []
        if self.counts and not self._draining:
            mine = owned(self.me, self.counts, self.shard_points, self._agents)
        self._own = set(mine)
        self._lacking = {shard for shard in mine if not self._held.get(shard)}
        self._foreign = self._held.keys() - self._own

    def _join(self, members: tuple[Member, ...], position: int) -> list[Effect]:
        everybody = self._sharing(members)
        if everybody != self._agents and position != TOLD and position < self._position:
            return []  # ignore this list: the feed has brought a newer one
        self.members = members
        self._present = self.me in {member.name for member in members}
        if not self._present:
            self._joined_at = None
        effects: list[Effect] = []
        if everybody != self._agents:
            self._share_among(everybody, position)
            effects = [*self._load_own(), *self._unwhole(), *self._whole()]
        addresses = {where(member) for member in self._coordinators()} - self._dialled
        self._dialled |= addresses
        dials: list[Effect] = [Dial(address) for address in sorted(addresses)]
        return [*dials, *effects, *self._drop(), *self._all_safe()]

    def _share_among(self, everybody: tuple[str, ...], position: int) -> None:
        self._agents, self._listed = everybody, agents_digest(everybody)
        self._listed_at, self._listed_from = None, position
        self._divide()

    def _sharing(self, members: Iterable[Member]) -> tuple[str, ...]:
        """Return the names of the agents among which the shards are divided."""
        agents = {m.name for m in members if _kind(m) is Kind.AGENT and not m.draining}
        # This agent is alive even if its own lease is not known yet or has expired.
        return tuple(sorted(agents - {self.me} if self._draining else agents | {self.me}))

    def _coordinators(self) -> Iterable[Member]:
        return (
            m for m in self.members if _kind(m) is Kind.COORDINATOR and m.address and not m.draining
        )

    def _grow(self, counts: Mapping[str, int]) -> list[Effect]:
        fresh: list[Shard] = []
        for series, count in counts.items():
            before = self.counts.get(series, 0)
            self.counts[series] = max(count, before)
            if count > before and self.shard_points:
                begun = -(-before // self.shard_points)
                shards = shards_of(series, count, self.shard_points)
                fresh += shards[begun:]
        if not fresh:
            return []
        self._grown_at = None
        owners = owners_of(fresh, self._agents)
        own = [shard for shard, names in zip(fresh, owners, strict=True) if self.me in names]
        self._own.update(own)
        self._lacking.update(shard for shard in own if not self._held.get(shard))
        return self._load(own)

    # --- these methods handle events that change the content of this agent's lease ---

    def _reach(self, position: int) -> list[Effect]:
        if position <= self._position:
            return []  # not the last frame of several: only the last has a new position
        self._position = position
        if self._joined_at is None and self._present:
            self._joined_at = position
        if self._grown_at is None:
            self._grown_at = position
        if self._listed_at is None and position >= self._listed_from:
            self._listed_at = position
            return [*self._whole(), *self._drop(), *self._all_safe()]
        return [*self._whole(), *self._all_safe()]

    def _whole(self) -> list[Effect]:
        """If this agent has loaded all shards that it owns, make its lease say so."""
        if self._draining or self._lacking or not self.shard_points or self._position < 0:
            return []
        self.whole_at = self._position
        if self.whole_for == self._listed:
            return []
        self.whole_for = self._listed
        return [Renew()]

    def _unwhole(self) -> list[Effect]:
        before, self.whole_for = self.whole_for, ""
        return [Renew()] if before else []

    # --- these methods choose the shards to load and to drop ---

    def _load_own(self) -> list[Effect]:
        return self._load(sorted(self._own - self._held.keys()))

    def _load(self, shards: Iterable[Shard]) -> list[Effect]:
        effects: list[Effect] = []
        for shard in shards:
            if shard not in self._held:
                self._held[shard] = False
                effects.append(Load(shard))
        return effects

    def _drop(self) -> list[Effect]:
        """Drop the shards that this agent does not own and need not keep.

        It need not keep a shard that is not whole here, or that all owners of the shard hold.  A
        draining agent drops nothing, because it answers searches until it stops.
        """
        if not self._foreign or self._draining:
            return []
        foreign, safe = sorted(self._foreign), self._safe()
        effects: list[Effect] = []
        for shard, names in zip(foreign, owners_of(foreign, self._agents), strict=True):
            if not self._held[shard] or safe.issuperset(names):
                effects += self._mark(shard, whole=False)
                effects.append(Drop(shard))
                del self._held[shard]
                self._foreign.discard(shard)
        return effects

    # --- draining ---

    def _drain(self) -> list[Effect]:
        if self._draining:
            return []
        self._draining = True
        self._share_among(self._sharing(self.members), TOLD)
        if self._position >= 0:
            # Accept leases whose `whole_at` is at least `since`. At that position this agent had
            # joined, and all shards had points. A lease whose `whole_at` is the present position
            # may never arrive: the feed sends no lease in which only `whole_at` has changed.
            known = self._joined_at is not None and self._grown_at is not None
            since = max(self._joined_at or 0, self._grown_at or 0)
            self._listed_at = since if known else self._position
        return [Renew(), *self._unwhole(), *self._all_safe()]

    def _count_left(self) -> int:
        """Count the fully loaded shards that not every new owner holds yet; cache the count."""
        safe = self._safe()
        seen = safe, self._agents, self.count, self.digest
        if seen != self._left_for:
            whole = sorted(shard for shard, full in self._held.items() if full)
            names = owners_of(whole, self._agents)
            self._left = sum(not safe.issuperset(owners) for owners in names) if names else 0
            self._left_for = seen
        return self._left

    def _all_safe(self) -> list[Effect]:
        if not self._draining or self._drained or (self._agents and self._count_left()):
            return []
        self._drained = True
        return [Drained()]

    def _safe(self) -> frozenset[str]:
        """Return the other agents whose leases say that they hold all shards that they own."""
        at = self._listed_at
        if at is None:
            return frozenset()
        return frozenset(
            member.name
            for member in self.members
            if _kind(member) is Kind.AGENT
            and member.name != self.me
            and member.whole_for == self._listed
            and member.whole_at >= at
        )

    def _mark(self, shard: Shard, *, whole: bool) -> list[Effect]:
        if shard not in self._held or self._held[shard] is whole:
            return []
        self._held[shard] = whole
        self.count += 1 if whole else -1
        self.digest ^= fingerprint(shard)
        if shard in self._own:
            (self._lacking.discard if whole else self._lacking.add)(shard)
        return [Report(shard, whole)]


def _kind(member: Member) -> Kind:
    return Kind(member.name.partition("/")[0])
