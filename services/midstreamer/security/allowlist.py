"""The allowlist: which certified peers may connect.

    # one entry a line; a comment begins with '#'
    coordinator/c1
    agent/a*            every agent whose id begins with "a"
    client/*            every client

An entry is ``<kind>/<id>`` or ``<kind>/<prefix>*``; there is no other pattern, so that two
people read an entry the same way.  What is not listed is refused.  Pure: `security.files` reads
the file and watches it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Identity, Kind

ENTRIES_MAX = 100_000
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*\*?\Z|\*\Z")


@dataclass(frozen=True)
class Allowlist:
    """Entries, split by what they cost to look up: names in a set, prefixes in a tuple."""

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def allows(self, identity: Identity) -> bool:
        """Whether an entry names this identity."""
        name = identity.name
        return name in self.names or (bool(self.prefixes) and name.startswith(self.prefixes))


def parse(text: str, *, source: str = "allowlist") -> Allowlist:
    """Read a file's text; ConfigError names the source and the line that is wrong."""
    names, prefixes = set(), set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        _check(entry, f"{source}, line {number}")
        if entry.endswith("*"):
            prefixes.add(entry[:-1])
        else:
            names.add(entry)
    if len(names) + len(prefixes) > ENTRIES_MAX:
        raise ConfigError(f"{source}: more than {ENTRIES_MAX:,} entries; use prefixes")
    return Allowlist(frozenset(names), tuple(sorted(prefixes)))


def _check(entry: str, where: str) -> None:
    kind, slash, pattern = entry.partition("/")
    if kind not in set(Kind):
        raise ConfigError(f"{where}: {kind!r} is no kind; use one of {', '.join(Kind)}")
    if not slash or not _PATTERN.match(pattern):
        raise ConfigError(
            f"{where}: {entry!r} is neither <kind>/<id> nor <kind>/<prefix>*; '*' may only end it"
        )
