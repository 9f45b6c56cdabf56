"""Feeds: ticks from CSV, Parquet, standard input or any iterable, checked before use.

A file is read and checked as a whole, so a wrong line prevents any tick from being stored. Standard
input is checked one time step at a time. Both give `Step`s: all ticks of one time, ordered by
series, with increasing times. The rules are the same for every source:

- ``time`` is ISO 8601 (without an offset: UTC) or whole microseconds since 1970-01-01 UTC.
- A series is in time order. Several series may be interleaved or follow one another in a file.
- Gaps are allowed: a series without a tick at some time is not part of that step.
  Positions count ticks, so a window of 64 points has 64 ticks, however long the gaps between them
  are. Leave a missing value out; NaN is refused.
- A repeated tick is dropped. If its value differs, it is a Conflict that names both values.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from midstreamer.domain.errors import BadInput, Conflict, StaleTick
from midstreamer.domain.series import Column, Floats, Integers, Tick, qualified
from midstreamer.market.tick_rows import HEADER, Row, instant, instant_of, number_of

ROWS_MAX = 20_000_000
"""Maximum rows of one file: 320 MB of arrays. Split larger files by time; replay them in order."""


class Step(NamedTuple):
    """All ticks of one time, ordered by series."""

    time: int
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Table:
    """A whole feed in memory; rows are ordered by (time, series)."""

    series: tuple[str, ...]
    """Names of the series, each once, sorted."""
    which: Integers
    """Series of each row, as a position in ``series``, int64, shape (n,)."""
    time: Integers
    """Event time of each row in microseconds, int64, shape (n,)."""
    value: Floats
    """Value of each row, float64, shape (n,)."""

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: int | None = None, stop: int | None = None) -> Table:
        """Return the rows with ``start <= time < stop``."""
        first = 0 if start is None else int(np.searchsorted(self.time, start))
        last = len(self.time) if stop is None else int(np.searchsorted(self.time, stop))
        return self.rows(first, max(first, last))

    def rows(self, start: int, stop: int) -> Table:
        """Return the rows at positions ``start`` up to, but not including, ``stop``."""
        kept = slice(start, stop)
        return Table(self.series, self.which[kept], self.time[kept], self.value[kept])

    def only(self, names: Sequence[str]) -> Table:
        """Return the rows of these series; BadInput names the first unknown series."""
        unknown = sorted(set(names) - set(self.series))
        if unknown:
            raise BadInput(
                f"series {unknown[0]} is not in this data, which holds {_some(self.series)}"
            )
        chosen = sorted(self.series.index(name) for name in set(names))
        kept = np.isin(self.which, chosen)
        which = np.searchsorted(chosen, self.which[kept])
        names = tuple(self.series[at] for at in chosen)
        return Table(names, which, self.time[kept], self.value[kept])

    def columns(self) -> list[Column]:
        """Return the rows as one column for each series, for bulk appends."""
        columns = []
        for position, name in enumerate(self.series):
            rows = self.which == position
            if rows.any():
                columns.append(Column(name, self.time[rows].tobytes(), self.value[rows].tobytes()))
        return columns

    def step_times(self) -> Integers:
        """Return the distinct times, in increasing order."""
        return np.unique(self.time)

    def steps(self) -> Iterator[Step]:
        """Yield all ticks, grouped by time."""
        rows = zip(self.which.tolist(), self.time.tolist(), self.value.tolist(), strict=True)
        yield from steps(Tick(self.series[which], time, value) for which, time, value in rows)


def steps(ticks: Iterable[Tick]) -> Iterator[Step]:
    """Group ticks that are in time order into steps.

    A step is yielded when a tick of a later time arrives, or the ticks end.
    """
    held: dict[str, Tick] = {}
    now: int | None = None
    for tick in ticks:
        checked = _checked(tick)
        if now is not None and checked.time < now:
            raise StaleTick(
                f"{checked.series} at {instant(checked.time)}: older than the tick before it,"
                f" {instant(now)}; sort the ticks by time"
            )
        if now is not None and checked.time > now:
            yield Step(now, tuple(held[name] for name in sorted(held)))
            held = {}
        now = checked.time
        before = held.setdefault(checked.series, checked)
        if before.value != checked.value:
            raise _conflict(checked.series, checked.time, before.value, checked.value)
    if now is not None:
        yield Step(now, tuple(held[name] for name in sorted(held)))


def table(names: Sequence[str], which: Integers, time: Integers, value: Floats) -> Table:
    """Return a table of rows that are in time order within each series."""
    order = np.argsort(np.asarray(names, dtype=object), kind="stable")
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    ranked = rank[which] if len(names) else which
    rows = np.lexsort((ranked, time))
    return Table(tuple(names[at] for at in order), ranked[rows], time[rows], value[rows])


def read(path: Path) -> Table:
    """Return all ticks of a CSV or Parquet file; error messages name file, line and value."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if path.suffix.lower() in {".parquet", ".pq"}:
        from midstreamer.market import parquet  # only here: importing pyarrow takes 0.25 s

        return gather(parquet.rows(path), f"{path}: row ")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return gather(csv_rows(lines, str(path)), f"{path}:")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8; is it a CSV file?") from error


def csv_ticks(lines: IO[str], name: str = "standard input") -> Iterator[Tick]:
    """Yield the tick of each CSV line when the line arrives; `steps` groups such ticks by time."""
    for row in csv_rows(lines, name):
        yield Tick(row.series, row.time, row.value)


def csv_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Yield the rows of CSV lines, each checked on its own.

    Error messages contain the number of the line and ``name``, which names the source of the lines.
    """
    reader = csv.reader(lines, strict=True)
    names: dict[str, str] = {}
    try:
        header = next(reader, None)
        if header is None or tuple(cell.strip().lower() for cell in header) != HEADER:
            shown = "nothing" if header is None else ",".join(header)[:80]
            raise BadInput(f"{name}:1: the header must be time,series,value; found {shown!r}")
        for cells in reader:
            if cells:
                yield _row(cells, reader.line_num, name, names)
    except csv.Error as error:
        raise BadInput(f"{name}:{reader.line_num}: {error}") from error


def _row(cells: list[str], line: int, name: str, names: dict[str, str]) -> Row:
    """Return one row; BadInput names file and line."""
    try:
        if len(cells) != len(HEADER):
            raise BadInput(f"{len(cells)} fields, expected 3: time,series,value")
        series = names.get(cells[1]) or names.setdefault(cells[1], qualified(cells[1].strip()))
        return Row(line, series, instant_of(cells[0]), number_of(cells[2], series))
    except BadInput as error:
        raise BadInput(f"{name}:{line}: {error.message}") from error


def gather(rows: Iterable[Row], place: str) -> Table:
    """Return rows as a table, after checking the order and the repetitions within each series."""
    codes: dict[str, int] = {}
    last: list[Row] = []
    which, time, value = array("q"), array("q"), array("d")
    for row in rows:
        code = codes.setdefault(row.series, len(codes))
        if code == len(last):
            last.append(row)
        elif not _follows(last[code], row, place):
            continue
        last[code] = row
        which.append(code)
        time.append(row.time)
        value.append(row.value)
        if len(time) > ROWS_MAX:
            raise BadInput(
                f"{place}{row.line}: more than {ROWS_MAX:,} rows: split the file by time"
            )
    arrays = (np.frombuffer(which, "<i8"), np.frombuffer(time, "<i8"), np.frombuffer(value, "<f8"))
    return table(tuple(codes), *(part.copy() for part in arrays))


def _follows(before: Row, row: Row, place: str) -> bool:
    """Return True for a new row and False for a repeated row.

    An older row raises StaleTick, and a repeated row with another value raises Conflict.
    """
    if row.time > before.time:
        return True
    at = f"{place}{row.line}: "
    if row.time < before.time:
        raise StaleTick(
            f"{at}{row.series} at {instant(row.time)} is older than its tick on line"
            f" {before.line}, {instant(before.time)}; sort each series by time"
        )
    if row.value != before.value:
        raise Conflict(at + _conflict(row.series, row.time, before.value, row.value).message)
    return False


def _checked(tick: Tick) -> Tick:
    """Return the tick with the full name of its series; BadInput when its value is not finite."""
    if not math.isfinite(tick.value):
        raise BadInput(f"{tick.series} at {instant(tick.time)}: {tick.value} is not finite")
    name = qualified(tick.series)
    return tick if name == tick.series else tick._replace(series=name)


def _conflict(series: str, time: int, before: float, after: float) -> Conflict:
    """Return the error for two values of one series at one time."""
    return Conflict(
        f"{series} at {instant(time)} has two values, {before} and {after}; keep one of them"
    )


def _some(names: Sequence[str], count: int = 8) -> str:
    """Return the first ``count`` names as text, and how many more there are."""
    shown = ", ".join(names[:count])
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown
