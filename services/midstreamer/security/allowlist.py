"""The allowlist: which certified peers may connect, and which universes clients may append to.

    # one entry a line; a comment begins with '#'
    coordinator/c1
    agent/a*                                every agent whose id begins with "a"
    client/*                                every client, and each may append to every universe
    client/quant-*  universes=stocks,fx     these clients may append to two universes only
    client/ops-*    drain                   these may also ask members of the fleet to drain

An entry is ``<kind>/<id>`` or ``<kind>/<prefix>*``; there are no other patterns, so that an entry
cannot be misread.  An identity that no entry matches is refused.  An entry of clients may be
followed by ``universes=<name>,<name>``; without it every universe is granted.  It may also be
followed by ``drain``; only such clients may ask members to drain.  When several entries match a
client, it may do what any of these entries grants.

This module is pure; `security.files` reads the file and watches it.
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
"""Maximum entries of an allowlist."""
UNIVERSES = "universes="
DRAIN = "drain"
EVERY = "*"
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*\*?\Z|\*\Z")


@dataclass(frozen=True)
class Allowlist:
    """Entries of an allowlist: whole ``names``, and ``prefixes`` without their final ``*``."""

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()
    limited: Mapping[str, Grant] = field(default_factory=dict, hash=False)
    """Grants of entries, by the text of the entry. A client entry that is not in this mapping lets
    its clients append to every universe, but not ask members to drain."""

    def allows(self, identity: Identity) -> bool:
        """Return whether an entry matches this identity."""
        name = identity.name
        return name in self.names or (bool(self.prefixes) and name.startswith(self.prefixes))

    def grant(self, identity: Identity) -> Grant:
        """Return what an identity may do: the union of the grants of all entries that match it.

        Only clients are granted anything.
        """
        if identity.kind is not Kind.CLIENT or not self.allows(identity):
            return NOTHING
        if not self.limited:
            return EVERYTHING
        granted = NOTHING
        for entry in self._naming(identity.name):
            granted |= self.limited.get(entry, EVERYTHING)
        return granted

    def unlimited_clients(self) -> list[str]:
        """Return the text of each client entry that grants every universe."""
        entries = [*sorted(self.names), *(f"{prefix}*" for prefix in self.prefixes)]
        clients = (entry for entry in entries if entry.startswith(f"{Kind.CLIENT}/"))
        return [entry for entry in clients if self.limited.get(entry, EVERYTHING).every]

    def _naming(self, name: str) -> Iterator[str]:
        """Yield the entries that match a name.

        The time that this takes does not depend on the number of entries in the allowlist.
        """
        if name in self.names:
            yield name
        for end in range(len(name) + 1):
            if name[:end] in self._prefix_set:
                yield f"{name[:end]}{EVERY}"

    @cached_property
    def _prefix_set(self) -> frozenset[str]:
        return frozenset(self.prefixes)


def parse(text: str, *, source: str = "allowlist") -> Allowlist:
    """Parse the text of an allowlist file; ConfigError names ``source`` and the wrong line."""
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
        raise ConfigError(
            f"{source}: more than {ENTRIES_MAX:,} entries; join entries by a prefix,"
            " <kind>/<prefix>*"
        )
    limited = {entry: grant for entry, grant in grants.items() if grant != EVERYTHING}
    return Allowlist(frozenset(names), tuple(sorted(prefixes)), limited)


def _check(entry: str, where: str) -> None:
    kind, slash, pattern = entry.partition("/")
    if kind not in set(Kind):
        raise ConfigError(f"{where}: {kind!r} is no kind of identity; use one of {', '.join(Kind)}")
    if not slash or not _PATTERN.match(pattern):
        raise ConfigError(
            f"{where}: {entry!r} is neither <kind>/<id> nor <kind>/<prefix>*; '*' is allowed only"
            " at the end"
        )


def _grant(entry: str, options: list[str], where: str) -> Grant:
    """Return the grant of an entry; without the option ``universes=`` it has every universe."""
    universes = [option for option in options if option.startswith(UNIVERSES)]
    drains = options.count(DRAIN)
    if len(universes) > 1 or drains > 1 or len(universes) + drains < len(options):
        raise ConfigError(
            f"{where}: {' '.join(options)!r} follows {entry}; only one"
            f" {UNIVERSES}<name>,<name> (without spaces) and one {DRAIN} may follow an entry"
        )
    if options and not entry.startswith(f"{Kind.CLIENT}/"):
        raise ConfigError(
            f"{where}: {options[0]!r} follows {entry}; {UNIVERSES} and {DRAIN} are for entries of"
            " clients only"
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
            raise BadInput("the name of a universe must not contain '/'")
        series.qualified(f"{name}/x")
    except BadInput as error:
        raise ConfigError(
            f"{where}: {name!r} in {option!r} is not a valid name of a universe; write for example"
            f" {UNIVERSES}stocks,fx, or {UNIVERSES}{EVERY} for every universe"
        ) from error
