"""Which shards this agent holds, and why: decided from what it is told, without asking anybody.

Every agent computes the owners of every shard from the list of live agents
(`domain.shard.owned`) and loads those that are its own.  A shard counts as held, and is reported,
once all its points are there.  A shard that is no longer its own is kept until both its owners
hold it, so that while the fleet changes there are rather too many copies than too few.

Leases do not list shards.  An agent that holds all its own shards says so in its lease, with the
digest of the list of agents that it computed them from, and the feed position up to which it has
looked for new ones.  An agent that knows the same list since an earlier position then knows which
shards the other holds.  The position is needed because a list can come back: agent 4 joins and
leaves again, and a lease may still speak of the first time.

A member that drains owns nothing: every agent computes owners without it, itself too.  An agent
that drains keeps what it holds and answers for it, until the others hold all of it.

Coordinators are dialled as they join and left when they have neither a lease nor a link.

No loop, no clock: events in, effects out.
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
from midstreamer.runtime.evidence import where

# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surveyed:
    """The catalogue at a position: points of each series, and positions in a shard."""

    counts: Mapping[str, int]
    shard_points: int
    position: int = 0


@dataclass(frozen=True)
class Joined:
    """Everybody with a live lease, at a position; `TOLD` when the feed says it in its turn."""

    members: tuple[Member, ...]
    position: int


@dataclass(frozen=True)
class Grew:
    """Series have so many points now."""

    counts: Mapping[str, int]


@dataclass(frozen=True)
class Reached:
    """The feed has been applied up to a position."""

    position: int


@dataclass(frozen=True)
class Filled:
    """All points of a shard are there."""

    shard: Shard


@dataclass(frozen=True)
class Torn:
    """A held shard misses points."""

    shard: Shard


@dataclass(frozen=True)
class Draining:
    """This agent is about to stop."""


Event = Surveyed | Joined | Grew | Reached | Filled | Torn | Draining

TOLD = -1
"""In place of a position: after everything the feed has told so far."""

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
    """What is held of a shard has changed: tell every coordinator."""

    shard: Shard
    whole: bool


@dataclass(frozen=True)
class Renew:
    """What the lease says has changed: renew it soon."""


@dataclass(frozen=True)
class Dial:
    """Keep a link to this coordinator."""

    address: str


@dataclass(frozen=True)
class Drained:
    """The others hold every shard that this agent holds, or nobody is left to hold them."""


Effect = Load | Drop | Report | Renew | Dial | Drained


# --- the core -----------------------------------------------------------------------------------


@dataclass
class Core:
    """One agent's view of the fleet; ``me`` is its name, ``agent/<id>``."""

    me: str
    shard_points: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    count: int = 0
    """Shards it can answer for."""
    digest: int = 0
    """`domain.shard.digest` of them."""
    whole_for: str = ""
    """What its lease says; see `Member`."""
    whole_at: int = 0
    _position: int = -1
    _agents: tuple[str, ...] = ()
    _listed: str = ""
    """The digest of ``_agents``."""
    _listed_at: int | None = None
    """A position by which every shard that had other owners before this list is known; None until
    the feed has come so far."""
    _listed_from: int = 0
    """The position at which somebody told of this list."""
    _own: set[Shard] = field(default_factory=set)
    _lacking: set[Shard] = field(default_factory=set)
    """Its own shards that are not whole."""
    _held: dict[Shard, bool] = field(default_factory=dict)
    """Every shard loaded or loading, and whether all its points are there."""
    _foreign: set[Shard] = field(default_factory=set)
    """Those of them that are not its own."""
    _joined_at: int | None = None
    """A position by which all had been told that it joined; None until the feed has come so far."""
    _grown_at: int | None = 0
    """A position by which every shard known here had begun; None likewise."""
    _present: bool = False
    """Whether its own lease is among those that it was told of."""
    _dialled: set[str] = field(default_factory=set)
    _draining: bool = False
    _drained: bool = False
    _left: int = 0
    _left_for: object = None
    """What ``_left`` was counted for."""

    def handle(self, event: Event) -> list[Effect]:
        """Take one event in; say what is to be done."""
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
        """The shards this agent can answer for."""
        return tuple(sorted(shard for shard, whole in self._held.items() if whole))

    @property
    def lacking(self) -> int:
        """How many of its own shards it cannot answer for yet."""
        return len(self._lacking)

    @property
    def missing(self) -> list[Shard]:
        """Its own shards that it cannot answer for yet."""
        return sorted(self._lacking)

    @property
    def understood(self) -> bool:
        """Whether all other agents understand a lease that says that its member drains."""
        agents = (member for member in self.members if _kind(member) is Kind.AGENT)
        return all("stage" in member.evidence for member in agents if member.name != self.me)

    @property
    def left(self) -> int:
        """Shards that a draining agent can answer for and the others do not hold yet."""
        return self._count_left() if self._draining and self._agents else 0

    def reset(self) -> None:
        """Forget every series and shard, as after a restart; the fleet is still known."""
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
        """A coordinator was left; it will be dialled again when it joins again."""
        self._dialled.discard(address)

    def leavable(self, address: str) -> bool:
        """Whether no member with a lease serves at an address."""
        return address not in {where(member) for member in self.members}

    # --- what is mine ---

    def _survey(self, event: Surveyed) -> list[Effect]:
        self.shard_points = event.shard_points
        self._position = max(self._position, event.position)
        self._grown_at = None if self._grown_at is None else max(self._grown_at, event.position)
        for series, count in event.counts.items():
            self.counts[series] = max(count, self.counts.get(series, 0))
        self._divide()
        return [*self._load_own(), *self._drop(), *self._whole()]

    def _divide(self) -> None:
        """Compute its own shards anew."""
        mine: list[Shard] = []
        if self.counts and not self._draining:
            mine = owned(self.me, self.counts, self.shard_points, self._agents)
        self._own = set(mine)
        self._lacking = {shard for shard in mine if not self._held.get(shard)}
        self._foreign = self._held.keys() - self._own

    def _join(self, members: tuple[Member, ...], position: int) -> list[Effect]:
        everybody = self._sharing(members)
        if everybody != self._agents and position != TOLD and position < self._position:
            return []  # the feed has told of a later list
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
        """The agents that the shards are divided among."""
        agents = {m.name for m in members if _kind(m) is Kind.AGENT and not m.draining}
        # Its own lease may not have arrived yet, or have lapsed: it is alive all the same.
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

    # --- what the lease says ---

    def _reach(self, position: int) -> list[Effect]:
        if position <= self._position:
            return []  # the beginning of more
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
        """It holds all its own shards, as far as the feed has told: say so."""
        if self._draining or self._lacking or not self.shard_points or self._position < 0:
            return []
        self.whole_at = self._position
        if self.whole_for == self._listed:
            return []
        self.whole_for = self._listed
        return [Renew()]

    def _unwhole(self) -> list[Effect]:
        said, self.whole_for = self.whole_for, ""
        return [Renew()] if said else []

    # --- what is held ---

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
        """Drop what is not its own and is not needed: not whole here, or whole at both owners.

        While it drains it drops nothing: whoever asks before it has gone is answered.
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

    # --- before it stops ---

    def _drain(self) -> list[Effect]:
        if self._draining:
            return []
        self._draining = True
        self._share_among(self._sharing(self.members), TOLD)
        if self._position >= 0:
            # Who is whole since it joined, and since the newest shard began, knows all it holds. A
            # later position would be waited for in vain: leases are not told for a position alone.
            known = self._joined_at is not None and self._grown_at is not None
            since = max(self._joined_at or 0, self._grown_at or 0)
            self._listed_at = since if known else self._position
        return [Renew(), *self._unwhole(), *self._all_safe()]

    def _count_left(self) -> int:
        """Shards held here that not all their owners hold, counted again when that may differ."""
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
        """Agents that hold all that this list gives them, and every shard known here."""
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
