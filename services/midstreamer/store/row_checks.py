"""Compares stored rows with the values that they must have; pure functions without SQL.

Each function takes rows and returns findings.  A finding names the table, the key, the column, the
stored value and the derived (recomputed) value.  Numbers are compared bit for bit.
`store.decision_audit` does the same for decisions and verdicts, and `store.audit` reads the rows.
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
from midstreamer.store import row_conversion
from midstreamer.store.migrate import Applied, Migration

SHOWN_CHARACTERS_MAX = 60
"""Maximum characters of a value in a finding."""
NOTHING = "nothing"
"""Text of a value that is missing (None)."""

Row = Mapping[str, Any]


class Finding(NamedTuple):
    """One stored value that differs from the value that it must have."""

    table: str
    key: str
    column: str
    stored: str
    """The stored value, as text."""
    derived: str
    """The value that it must have, or a rule that it must obey, as text."""

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} is {self.stored}, derived {self.derived}"


class Ticks(NamedTuple):
    """Times and values of the stored points of one run of positions."""

    times: Integers
    values: Floats


def finding(table: str, key: object, column: str, stored: object, derived: object) -> Finding:
    """Return a finding, with its key and values turned into text by `shown`."""
    return Finding(table, shown(key), column, shown(stored), shown(derived))


def shown(value: object) -> str:
    """Return a value as short text: bytes as hexadecimal digits, long text cut."""
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
    """Return whether two values are equal.

    Floats are compared bit for bit, so NaN equals itself, and 0.0 differs from -0.0.
    """
    if isinstance(stored, float) and isinstance(derived, float):
        return struct.pack("<d", stored) == struct.pack("<d", derived)
    if isinstance(stored, tuple) and isinstance(derived, tuple):
        return len(stored) == len(derived) and all(map(same, stored, derived))
    return stored == derived


def columns(
    table: str, key: object, row: Row, derived: Mapping[str, object], *, body: str = ""
) -> Iterator[Finding]:
    """Yield a finding for each column of a row that differs from its derived value.

    ``body`` says where the derived values come from, such as "body" or "file"; each finding shows
    it after the derived value.
    """
    origin = f" ({body})" if body else ""
    for column, value in derived.items():
        if not same(row[column], value):
            yield finding(table, key, column, row[column], f"{shown(value)}{origin}")


def fields(table: str, key: object, stored: msgspec.Struct, derived: object) -> Iterator[Finding]:
    """Yield a finding for each field of a decoded body that differs from the derived value."""
    for name in stored.__struct_fields__:
        stored_value, derived_value = getattr(stored, name), getattr(derived, name)
        if not same(stored_value, derived_value):
            yield finding(table, key, f"body.{name}", stored_value, derived_value)


def undecodable(table: str, key: object, body: bytes, error: Exception) -> Finding:
    """Return the finding for a body that cannot be decoded."""
    return finding(table, key, "body", body, f"bytes that can be decoded: {error}")


def unknown(table: str, key: object, body: bytes, kind: type[msgspec.Struct]) -> Iterator[Finding]:
    """Yield a finding for each name in a body that is not a field of the class ``kind``.

    Decoding ignores unknown names, so without this check a corrupted field name goes unnoticed.
    """
    for name in msgspec.msgpack.decode(body).keys() - set(kind.__struct_fields__):
        yield finding(table, key, "body", f"a field {name!r}", "none of this name")


# --- series and points ----------------------------------------------------------------------------


def of_series(row: Row) -> Iterator[Finding]:
    """Compare the row of a series with the points of the series, and check its name."""
    name = row["name"]
    derived = {
        "count": row["count_there"] or 0,
        "first_time": row["first_there"],
        "last_time": row["last_there"],
        "last_value": row["value_there"],
    }
    yield from columns("series", name, row, derived, body="points")
    try:
        full = qualified(name)
    except BadInput as error:
        yield finding("series", name, "name", name, f"a valid name: {error}")
        return
    if full != name:
        yield finding("series", name, "name", name, full)


def of_points(row: Row) -> Iterator[Finding]:
    """Return the finding for a bad point: it has no series, or a value that no tick may have.

    The query `audit_points` returns only bad points.
    """
    key = f"{row['series_id']}/{row['index']}"
    if row["name"] is None:
        yield finding("points", key, "series_id", row["series_id"], "the id of a series")
    else:
        yield finding("points", key, "value", row["value"], "a finite number, zero positive")


# --- specifications and streams -------------------------------------------------------------------


def of_specification(row: Row) -> tuple[Specification | None, list[Finding]]:
    """Return the specification of a row (None if it cannot be decoded), and the findings."""
    try:
        specification = row_conversion.specification(row["body"])
    except (msgspec.MsgspecError, BadInput) as error:
        wrong = finding("specifications", row["digest"], "body", row["body"], f"readable: {error}")
        return None, [wrong]
    derived = {"digest": specification.digest, "stream": specification.stream}
    found = list(columns("specifications", row["digest"], row, derived, body="body"))
    found += _json("specifications", row["digest"], "body", row["body"], specification)
    return specification, found


def of_stream(row: Row, known: Mapping[str, Specification]) -> Iterator[Finding]:
    """Compare the specification in the row of a learning state with the stored specification."""
    stream = row["stream"]
    specification = known.get(stream)
    if specification is None:
        yield finding("states", stream, "stream", stream, "the stream of a stored specification")
    else:
        yield from _json("states", stream, "specification", row["specification"], specification)


def _json(table: str, key: object, column: str, text: str, derived: object) -> Iterator[Finding]:
    if texts.loads(text) != texts.loads(row_conversion.json(derived)):
        yield finding(table, key, column, text, row_conversion.json(derived))


def of_version(table: str, key: str, body: bytes, derived: bytes) -> Iterator[Finding]:
    """Compare the bytes of a stored state with those of the state computed from its events."""
    if body != derived:
        yield finding(table, key, "body", _where(body, derived), "the state from its events")


def _where(stored: bytes, derived: bytes) -> str:
    """Describe how two byte strings differ.

    If their lengths differ, name both lengths.  Otherwise name the number of bytes that differ and
    the index of the first one.
    """
    if len(stored) != len(derived):
        return f"{len(stored):,} B instead of {len(derived):,} B"
    differs = np.frombuffer(stored, "u1") != np.frombuffer(derived, "u1")
    return f"other in {np.count_nonzero(differs):,} B, the first at {int(np.argmax(differs)):,}"


def of_migration(row: Row, known: Mapping[int, Migration]) -> Iterator[Finding]:
    """Compare a row of the table migrations with the migration file of the same number."""
    number, compatible = row["number"], row["compatible"]
    shipped = known.get(number)
    if shipped is not None:
        derived = {"name": shipped.name, "checksum": shipped.checksum}
        yield from columns("migrations", number, row, derived, body="file")
        if compatible is not None and compatible != shipped.compatible:
            yield finding("migrations", number, "compatible", compatible, shipped.compatible)
    elif Applied(number, row["checksum"], compatible).refuses(max(known)):
        yield finding("migrations", number, "number", number, "the number of a known migration")


def of_missing_migrations(numbers: Iterable[int]) -> Iterator[Finding]:
    """Yield a finding for each migration that is missing although a newer one has run.

    ``numbers`` are the migrations that have run.  They run in order, so none may be missing.
    """
    found = set(numbers)
    for number in sorted(set(range(1, max(found, default=0) + 1)) - found):
        yield finding("migrations", number, "number", None, "a row for each migration")


# --- the feed -------------------------------------------------------------------------------------


def change_of(row: Row) -> tuple[Change | None, list[Finding]]:
    """Return the change of a row of the feed; None, with a finding, if it cannot be decoded."""
    try:
        return row_conversion.change(row["body"]), []
    except msgspec.MsgspecError as error:
        return None, [undecodable("feed", row["position"], row["body"], error)]


def of_change(
    position: int, change: Change, ticks: Ticks | None, versions: Mapping[str, int]
) -> Iterator[Finding]:
    """Compare a change of the feed with the stored points and states that it describes.

    ``ticks`` are the stored points at the positions of a Points change; ``versions`` holds the
    version of each stream's state.
    """
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
            return  # no check: the leases at the time of this change are not stored
        case Skipped(kind):  # the kind is corrupt, or only a newer version knows it
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
    for column, sent, stored in parts:
        at = first_apart(sent, stored)
        if at >= 0:
            # Either the feed or the table ``points`` is corrupt. It is unknown which of the two.
            yield finding(
                "points", f"{change.column.series}/{change.start + at}", column,
                stored[at].item() if at < len(stored) else None,
                f"{shown(sent[at].item() if at < len(sent) else None)} (feed {position})",
            )  # fmt: skip


def first_apart(told: Any, stored: Any) -> int:
    """Return the first index at which two arrays of 8-byte numbers differ in a bit.

    If one array is the beginning of the other, return its length.  Return -1 if both are equal.
    """
    short = min(len(told), len(stored))
    first, second = (np.ascontiguousarray(part[:short]).view("<i8") for part in (told, stored))
    differences = np.flatnonzero(first != second)
    if differences.size:
        return int(differences[0])
    return -1 if len(told) == len(stored) else short
