"""The plan of a rolling restart: members, their versions, and events in order. No I/O.

Every member changes its version at each restart. Some members begin with the old version, and some
with the new version. The seed decides the order of restarts, which is the same in every round. So
two linked members are restarted in turn. Their versions are, for example, old/old, then new/old,
then new/new, then old/new. Within two rounds, all four pairs of versions occur.
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
"""The sync that each member dials first. Some members get only this one address."""


class Version(StrEnum):
    """The version of the code that a process runs."""

    OLD = "old"
    """The previous version, pinned in ``tests/version-before``."""
    NEW = "new"
    """This checkout."""

    @property
    def other(self) -> Version:
        """The version to which a member of this version changes at its next restart."""
        return Version.NEW if self is Version.OLD else Version.OLD


CLIENTS = {"u1": Version.OLD, "u2": Version.NEW}
"""For each client, the version whose SDK it uses."""


@dataclass(frozen=True)
class Event:
    """The restart of one member; if ``member`` is empty, the renewal of all certificates."""

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
    """The version that each member has at the beginning, and all events in order."""

    versions: dict[str, Version]
    events: tuple[Event, ...]
    clients: dict[str, Version] = field(default_factory=lambda: dict(CLIENTS))


def make(
    seed: int, *, rounds: int = 2, members: Sequence[str] = tuple(MEMBERS), alone: bool = False
) -> Plan:
    """Return a plan that restarts these members once a round and renews certificates half-way.

    ``alone`` runs every process on this version, before and after its restart.
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
    """Return which kinds and versions of processes have links to each other during a plan.

    Each tuple has kind and version of the process that dials, then of the process that listens.

    Agents and clients dial every coordinator. Agents and coordinators dial their sync in `HOME`.
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
