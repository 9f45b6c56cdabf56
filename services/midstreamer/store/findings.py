"""Compares what is stored with what it must be, row by row: pure, no connection, no SQL.

Each function takes rows and returns findings.  A finding names the table, the key, the column, the
stored value and the derived one.  Numbers are compared to the bit.  `store.proofs` does the same
for decisions and verdicts, whose values follow from ticks and states; `store.audit` reads the rows.
"""

from __future__ import annotations

import json as texts
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Floats, Integers, qualified
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import Change, Joined, Learned, Points, Skipped
from midstreamer.store import rows
from midstreamer.store.migrate import Applied, Migration

SHOWN_CHARACTERS_MAX = 60
NOTHING = "nothing"

Row = Mapping[str, Any]


class Finding(NamedTuple):
    """One stored value that is not what it must be."""

    table: str
    key: str
    column: str
    stored: str
    derived: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} is {self.stored}, derived {self.derived}"


class Ticks(NamedTuple):
    """Stored points of one run of positions."""

    times: Integers
    values: Floats


def finding(table: str, key: object, column: str, stored: object, derived: object) -> Finding:
    """A finding with its values as text."""
    return Finding(table, shown(key), column, shown(stored), shown(derived))


def shown(value: object) -> str:
    """A value for people: bytes in hexadecimal, everything cut to one readable length."""
    if value is None:
        return NOTHING
    if isinstance(value, bytes):
        text = f"{value[:20].hex()}… ({len(value):,} B)" if len(value) > 20 else value.hex()
    elif isinstance(value, float):
        text = repr(value)
    else:
        text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"


def same(stored: object, derived: object) -> bool:
    """Equal; floats to the bit, so that NaN equals itself and the two zeros differ."""
    if isinstance(stored, float) and isinstance(derived, float):
        return struct.pack("<d", stored) == struct.pack("<d", derived)
    if isinstance(stored, tuple) and isinstance(derived, tuple):
        return len(stored) == len(derived) and all(map(same, stored, derived))
    return stored == derived


def columns(
    table: str, key: object, row: Row, derived: Mapping[str, object], *, body: str = ""
) -> Iterator[Finding]:
    """Columns of a row that are not as derived; ``body`` names where the values came from."""
    origin = f" ({body})" if body else ""
    for column, value in derived.items():
        if not same(row[column], value):
            yield finding(table, key, column, row[column], f"{shown(value)}{origin}")


def fields(table: str, key: object, stored: msgspec.Struct, derived: object) -> Iterator[Finding]:
    """Fields of a decoded body that are not those of a derived value."""
    for name in stored.__struct_fields__:
        mine, theirs = getattr(stored, name), getattr(derived, name)
        if not same(mine, theirs):
            yield finding(table, key, f"body.{name}", mine, theirs)


def undecodable(table: str, key: object, body: bytes, error: Exception) -> Finding:
    """The finding for a body that cannot be read at all."""
    return finding(table, key, "body", body, f"bytes that can be decoded: {error}")


def unknown(table: str, key: object, body: bytes, kind: type[msgspec.Struct]) -> Iterator[Finding]:
    """Names in a body that are no field: decoding passes over them, so a changed name hides."""
    for name in msgspec.msgpack.decode(body).keys() - set(kind.__struct_fields__):
        yield finding(table, key, "body", f"a field {name!r}", "none of this name")


# --- series and points ----------------------------------------------------------------------------


def of_series(row: Row) -> Iterator[Finding]:
    """A series' row beside its points."""
    name = row["name"]
    there = {
        "count": row["count_there"] or 0,
        "first_time": row["first_there"],
        "last_time": row["last_there"],
        "last_value": row["value_there"],
    }
    yield from columns("series", name, row, there, body="points")
    try:
        full = qualified(name)
    except BadInput as error:
        yield finding("series", name, "name", name, f"a valid name: {error}")
        return
    if full != name:
        yield finding("series", name, "name", name, full)


def of_points(row: Row) -> Iterator[Finding]:
    """A point that no tick can have brought; the query has chosen it."""
    key = f"{row['series_id']}/{row['index']}"
    if row["name"] is None:
        yield finding("points", key, "series_id", row["series_id"], "the id of a series")
    else:
        yield finding("points", key, "value", row["value"], "a finite number, zero positive")


# --- specifications and streams -------------------------------------------------------------------


def of_specification(row: Row) -> tuple[Specification | None, list[Finding]]:
    """The specification of a row, and what contradicts it; None when it cannot be read."""
    try:
        made = rows.specification(row["body"])
    except (msgspec.MsgspecError, BadInput) as error:
        wrong = finding("specifications", row["digest"], "body", row["body"], f"readable: {error}")
        return None, [wrong]
    derived = {"digest": made.digest, "stream": made.stream}
    found = list(columns("specifications", row["digest"], row, derived, body="body"))
    found += _json("specifications", row["digest"], "body", row["body"], made)
    return made, found


def of_stream(row: Row, known: Mapping[str, Specification]) -> Iterator[Finding]:
    """The specification beside a learning state."""
    made = known.get(row["stream"])
    if made is None:
        yield finding("states", row["stream"], "stream", row["stream"], "a stored specification's")
    else:
        yield from _json("states", row["stream"], "specification", row["specification"], made)


def _json(table: str, key: object, column: str, text: str, made: object) -> Iterator[Finding]:
    if texts.loads(text) != texts.loads(rows.json(made)):
        yield finding(table, key, column, text, rows.json(made))


def of_version(table: str, key: str, body: bytes, derived: bytes) -> Iterator[Finding]:
    """A stored state beside the one its events give."""
    if body != derived:
        yield finding(table, key, "body", _where(body, derived), "the state its events give")


def _where(stored: bytes, derived: bytes) -> str:
    """Two long byte strings differ: where, and how."""
    if len(stored) != len(derived):
        return f"{len(stored):,} B instead of {len(derived):,} B"
    apart = np.frombuffer(stored, "u1") != np.frombuffer(derived, "u1")
    return f"other in {np.count_nonzero(apart):,} B, the first at {int(np.argmax(apart)):,}"


def of_migration(row: Row, known: Mapping[int, Migration]) -> Iterator[Finding]:
    """A row of the schema's history beside the file that was run."""
    number, compatible = row["number"], row["compatible"]
    made = known.get(number)
    if made is not None:
        derived = {"name": made.name, "checksum": made.checksum}
        yield from columns("migrations", number, row, derived, body="file")
        if compatible is not None and compatible != made.compatible:
            yield finding("migrations", number, "compatible", compatible, made.compatible)
    elif Applied(number, row["checksum"], compatible).refuses(max(known)):
        yield finding("migrations", number, "number", number, "a known migration's")


def of_missing_migrations(numbers: Iterable[int]) -> Iterator[Finding]:
    """Migrations run in order, so none below the newest is missing."""
    found = set(numbers)
    for number in sorted(set(range(1, max(found, default=0) + 1)) - found):
        yield finding("migrations", number, "number", None, "a row for each migration")


# --- the feed -------------------------------------------------------------------------------------


def change_of(row: Row) -> tuple[Change | None, list[Finding]]:
    """The change of a row of the feed; None, with a finding, when it cannot be read."""
    try:
        return rows.change(row["body"]), []
    except msgspec.MsgspecError as error:
        return None, [undecodable("feed", row["position"], row["body"], error)]


def of_change(
    position: int, change: Change, ticks: Ticks | None, versions: Mapping[str, int]
) -> Iterator[Finding]:
    """A change beside the points and the states that it told of."""
    match change:
        case Points():
            yield from _of_told_points(position, change, ticks)
        case Learned():
            newest = versions.get(change.stream, 0)
            if not 0 < change.version <= newest:
                derived = f"1 to {newest} ({change.stream})"
                yield finding("feed", position, "body.version", change.version, derived)
            if change.state:
                yield finding("feed", position, "body.state", change.state, "empty")
        case Joined():
            return  # leases of that moment are stored nowhere else
        case Skipped(kind):  # a newer version wrote it, or somebody else
            yield finding("feed", position, "body.type", kind, "a kind that this version knows")


def _of_told_points(position: int, change: Points, ticks: Ticks | None) -> Iterator[Finding]:
    name = f"body ({change.column.series} from {change.start})"
    try:
        times, values = change.column.times_array(), change.column.values_array()
    except ValueError as error:
        yield finding("feed", position, name, change.column.times, f"whole numbers: {error}")
        return
    if ticks is None:
        yield finding("feed", position, name, f"{len(times)} ticks", "no such points")
        return
    parts: Sequence[tuple[str, Any, Any]] = (
        ("time", times, ticks.times),
        ("value", values, ticks.values),
    )
    for column, told, stored in parts:
        at = first_apart(told, stored)
        if at >= 0:
            # Which of the two was changed cannot be told from them alone.
            yield finding(
                "points", f"{change.column.series}/{change.start + at}", column,
                stored[at].item() if at < len(stored) else None,
                f"{shown(told[at].item() if at < len(told) else None)} (feed {position})",
            )  # fmt: skip


def first_apart(told: Any, stored: Any) -> int:
    """The first place where two arrays of 8-byte numbers differ in a bit; -1 when they do not."""
    short = min(len(told), len(stored))
    mine, theirs = (np.ascontiguousarray(part[:short]).view("<i8") for part in (told, stored))
    apart = np.flatnonzero(mine != theirs)
    if apart.size:
        return int(apart[0])
    return -1 if len(told) == len(stored) else short
