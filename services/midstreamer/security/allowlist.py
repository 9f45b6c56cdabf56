"""The allowlist: which certified peers may connect, and which universes clients may append to.

    # one entry a line; a comment begins with '#'
    coordinator/c1
    agent/a*                                every agent whose id begins with "a"
    client/*                                every client, and each may append to every universe
    client/quant-*  universes=stocks,fx     these clients may append to two universes only
    client/ops-*    drain                   these may also ask members of the fleet to drain

An entry is ``<kind>/<id>`` or ``<kind>/<prefix>*``; there is no other pattern, so that two
people read an entry the same way.  What is not listed is refused.  Behind an entry of clients
may stand ``universes=<name>,<name>``; an entry without it grants every universe.  ``drain`` behind
an entry of clients lets them ask members to drain; nothing else does.  When several entries name a
client, it may do what any of them grants.  Pure: `security.files` reads
the file and watches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from midstreamer.domain import series
from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.domain.grant import EVERYTHING, NOTHING, Grant
from midstreamer.domain.identity import Identity, Kind

ENTRIES_MAX = 100_000
UNIVERSES = "universes="
DRAIN = "drain"
EVERY = "*"
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*\*?\Z|\*\Z")


@dataclass(frozen=True)
class Allowlist:
    """Entries, split by what they cost to look up: names in a set, prefixes in a tuple."""

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()
    limited: Mapping[str, Grant] = field(default_factory=dict, hash=False)
    """Grants of the entries with words behind them, by the entry as it is written."""

    def allows(self, identity: Identity) -> bool:
        """Whether an entry names this identity."""
        name = identity.name
        return name in self.names or (bool(self.prefixes) and name.startswith(self.prefixes))

    def grant(self, identity: Identity) -> Grant:
        """What this identity may do: all that the entries naming it grant together."""
        if identity.kind is not Kind.CLIENT or not self.allows(identity):
            return NOTHING
        if not self.limited:
            return EVERYTHING
        granted = NOTHING
        for entry in self._naming(identity.name):
            granted |= self.limited.get(entry, EVERYTHING)
        return granted

    def unlimited_clients(self) -> list[str]:
        """The entries of clients that grant every universe, as they are written."""
        entries = [*sorted(self.names), *(f"{prefix}*" for prefix in self.prefixes)]
        clients = (entry for entry in entries if entry.startswith(f"{Kind.CLIENT}/"))
        return [entry for entry in clients if self.limited.get(entry, EVERYTHING).every]

    def _naming(self, name: str) -> Iterator[str]:
        """The entries that name this identity; as fast for a long list as for a short one."""
        if name in self.names:
            yield name
        for end in range(len(name) + 1):
            if name[:end] in self._prefix_set:
                yield f"{name[:end]}{EVERY}"

    @cached_property
    def _prefix_set(self) -> frozenset[str]:
        return frozenset(self.prefixes)


def parse(text: str, *, source: str = "allowlist") -> Allowlist:
    """Read a file's text; ConfigError names the source and the line that is wrong."""
    names, prefixes = set(), set()
    grants: dict[str, Grant] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        entry, where = words[0], f"{source}, line {number}"
        _check(entry, where)
        grants[entry] = grants.get(entry, NOTHING) | _grant(entry, words[1:], where)
        if entry.endswith("*"):
            prefixes.add(entry[:-1])
        else:
            names.add(entry)
    if len(names) + len(prefixes) > ENTRIES_MAX:
        raise ConfigError(f"{source}: more than {ENTRIES_MAX:,} entries; use prefixes")
    limited = {entry: grant for entry, grant in grants.items() if grant != EVERYTHING}
    return Allowlist(frozenset(names), tuple(sorted(prefixes)), limited)


def _check(entry: str, where: str) -> None:
    kind, slash, pattern = entry.partition("/")
    if kind not in set(Kind):
        raise ConfigError(f"{where}: {kind!r} is no kind; use one of {', '.join(Kind)}")
    if not slash or not _PATTERN.match(pattern):
        raise ConfigError(
            f"{where}: {entry!r} is neither <kind>/<id> nor <kind>/<prefix>*; '*' may only end it"
        )


def _grant(entry: str, options: list[str], where: str) -> Grant:
    """What the words behind an entry grant; every universe when none names universes."""
    universes = [option for option in options if option.startswith(UNIVERSES)]
    drains = options.count(DRAIN)
    if len(universes) > 1 or drains > 1 or len(universes) + drains < len(options):
        raise ConfigError(
            f"{where}: {' '.join(options)!r} stands behind {entry}; only one"
            f" {UNIVERSES}<name>,<name>, without spaces in it, and one {DRAIN} may"
        )
    if options and not entry.startswith(f"{Kind.CLIENT}/"):
        raise ConfigError(
            f"{where}: {options[0]!r} stands behind {entry}; only clients append, and are let drain"
        )
    granted = _universes(universes[0], where) if universes else EVERYTHING
    return replace(granted, drain=drains > 0)


def _universes(option: str, where: str) -> Grant:
    names = option.removeprefix(UNIVERSES).split(",")
    if names == [EVERY]:
        return EVERYTHING
    for name in names:
        _check_universe(name, option, where)
    return Grant(frozenset(names))


def _check_universe(name: str, option: str, where: str) -> None:
    try:
        if "/" in name:
            raise BadInput("a universe has no '/'")
        series.qualified(f"{name}/x")
    except BadInput as error:
        raise ConfigError(
            f"{where}: {name!r} in {option!r} is no name of a universe; write"
            f" {UNIVERSES}stocks,fx, or {UNIVERSES}{EVERY} for all"
        ) from error
