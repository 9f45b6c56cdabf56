"""The plan of a rolling restart: members, their versions, and events in order.  Pure.

Every member alternates between the two versions, and half of them begin with each.  The order is
drawn from the seed once and kept in every round: so, of two members that talk to each other, each
is for a while the only new one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SYNC, COORDINATOR, AGENT, CLIENT = "sync", "coordinator", "agent", "client"
MEMBERS = {
    "s1": SYNC,
    "s2": SYNC,
    "c1": COORDINATOR,
    "c2": COORDINATOR,
    "a1": AGENT,
    "a2": AGENT,
    "a3": AGENT,
}
"""Kind of each member, in the order in which a fleet is started."""
HOME = {"c1": "s1", "c2": "s2", "a1": "s1", "a2": "s2", "a3": "s1"}
"""The sync that a member dials first; a member that knows one address dials no other."""


class Version(StrEnum):
    """Whose code a process runs."""

    OLD = "old"
    """The version before, ``tests/version-before``."""
    NEW = "new"
    """This checkout."""

    @property
    def other(self) -> Version:
        """The one that the next life has."""
        return Version.NEW if self is Version.OLD else Version.OLD


CLIENTS = {"u1": Version.OLD, "u2": Version.NEW}
"""Version of each client's SDK."""


@dataclass(frozen=True)
class Event:
    """One thing that is done to a fleet; without a member, all certificates are renewed."""

    member: str = ""
    before: Version = Version.OLD
    after: Version = Version.NEW

    def __str__(self) -> str:
        if not self.member:
            return "certificates renewed"
        return f"{self.member} {self.before} → {self.after}"


RENEW = Event()


@dataclass(frozen=True)
class Plan:
    """Versions at the beginning, and all events in order."""

    versions: dict[str, Version]
    events: tuple[Event, ...]
    clients: dict[str, Version] = field(default_factory=lambda: dict(CLIENTS))


def make(
    seed: int, *, rounds: int = 2, members: Sequence[str] = tuple(MEMBERS), alone: bool = False
) -> Plan:
    """Restart these members once in each round; renew all certificates half-way.

    ``alone``: every process is of this version, before and after.
    """
    first = {name: Version.NEW if alone else _first(name) for name in MEMBERS}
    order = list(members)
    random.Random(seed).shuffle(order)
    events, now = [], dict(first)
    for name in order * rounds:
        after = now[name] if alone else now[name].other
        events.append(Event(name, now[name], after))
        now[name] = after
    events.insert(len(events) // 2, RENEW)
    return Plan(first, tuple(events), dict.fromkeys(CLIENTS, Version.NEW) if alone else CLIENTS)


def _first(name: str) -> Version:
    return Version.OLD if int(name[1:]) % 2 else Version.NEW


def pairs(plan: Plan) -> set[tuple[str, Version, str, Version]]:
    """Kinds and versions of all members that have a link at some time: (who dialled, who answers).

    Agents and clients dial every coordinator.  Agents and coordinators dial their own sync.
    """
    now = dict(plan.versions)
    met = set(_linked(now))
    for event in plan.events:
        if event.member:
            now[event.member] = event.after
            met.update(_linked(now))
    return met


def _linked(now: dict[str, Version]) -> Iterator[tuple[str, Version, str, Version]]:
    coordinators = [name for name, kind in MEMBERS.items() if kind == COORDINATOR]
    for name, home in HOME.items():
        yield MEMBERS[name], now[name], SYNC, now[home]
    for coordinator in coordinators:
        for name, kind in MEMBERS.items():
            if kind == AGENT:
                yield AGENT, now[name], COORDINATOR, now[coordinator]
        for version in CLIENTS.values():
            yield CLIENT, version, COORDINATOR, now[coordinator]
