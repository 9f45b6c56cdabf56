"""Feeds: ticks out of CSV, Parquet, standard input or any iterable, checked before use.

A file is read and checked whole, so a broken line in it stops everything before a tick is
stored; standard input is checked one time step at a time.  Both give `Step`s: all ticks of one
time, ordered by series, times rising.  The rules, the same for every source:

- ``time`` is ISO 8601 (without an offset: UTC) or whole microseconds since 1970-01-01 UTC.
- A series is in time order; several may be mixed, or follow one another in a file.
- A gap is fine: a series without a tick at some time simply is not part of that step.
  Positions count ticks, so a window spans its gaps; leave a missing value out, never NaN.
- The same tick again is dropped; with another value it is a Conflict that names both.
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
from midstreamer.market.rows import HEADER, Row, instant, instant_of, number_of

ROWS_MAX = 20_000_000
"""Of one file: 320 MB of arrays. Larger ones are split by time and replayed in turn."""


class Step(NamedTuple):
    """All ticks of one time, ordered by series."""

    time: int
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Table:
    """A whole feed in memory, rows in order of (time, series)."""

    series: tuple[str, ...]
    """Distinct names, sorted."""
    which: Integers
    """Position in ``series``, shape (n,)."""
    time: Integers
    value: Floats

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: int | None = None, stop: int | None = None) -> Table:
        """The rows with ``start <= time < stop``."""
        first = 0 if start is None else int(np.searchsorted(self.time, start))
        last = len(self.time) if stop is None else int(np.searchsorted(self.time, stop))
        return self.rows(first, max(first, last))

    def rows(self, start: int, stop: int) -> Table:
        """The rows with positions in ``[start, stop)``."""
        kept = slice(start, stop)
        return Table(self.series, self.which[kept], self.time[kept], self.value[kept])

    def only(self, names: Sequence[str]) -> Table:
        """The rows of these series; BadInput names one that is not there, and those that are."""
        unknown = sorted(set(names) - set(self.series))
        if unknown:
            raise BadInput(
                f"series {unknown[0]} is not in this data; it holds {_some(self.series)}"
            )
        chosen = sorted(self.series.index(name) for name in set(names))
        kept = np.isin(self.which, chosen)
        which = np.searchsorted(chosen, self.which[kept])
        names = tuple(self.series[at] for at in chosen)
        return Table(names, which, self.time[kept], self.value[kept])

    def columns(self) -> list[Column]:
        """The same as one column a series, for bulk appends."""
        made = []
        for position, name in enumerate(self.series):
            rows = self.which == position
            if rows.any():
                made.append(Column(name, self.time[rows].tobytes(), self.value[rows].tobytes()))
        return made

    def step_times(self) -> Integers:
        """The distinct times, rising."""
        return np.unique(self.time)

    def steps(self) -> Iterator[Step]:
        """All ticks, one time after the other."""
        rows = zip(self.which.tolist(), self.time.tolist(), self.value.tolist(), strict=True)
        yield from steps(Tick(self.series[which], time, value) for which, time, value in rows)


def steps(ticks: Iterable[Tick]) -> Iterator[Step]:
    """Group ticks that come in time order; a step is given when a later time or the end comes."""
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
    """A table of rows that are in time order within each series."""
    order = np.argsort(np.asarray(names, dtype=object), kind="stable")
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    ranked = rank[which] if len(names) else which
    rows = np.lexsort((ranked, time))
    return Table(tuple(names[at] for at in order), ranked[rows], time[rows], value[rows])


def read(path: Path) -> Table:
    """All ticks of a CSV or Parquet file; errors name file, line and value."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if path.suffix.lower() in {".parquet", ".pq"}:
        from midstreamer.market import parquet  # pyarrow takes a quarter second to load

        return gather(parquet.rows(path), f"{path}: row ")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return gather(csv_rows(lines, str(path)), f"{path}:")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8; is it a CSV file?") from error


def csv_ticks(lines: IO[str], name: str = "standard input") -> Iterator[Tick]:
    """Ticks of CSV lines as they come, for `steps`."""
    for row in csv_rows(lines, name):
        yield Tick(row.series, row.time, row.value)


def csv_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """The rows of CSV lines, each checked on its own."""
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
    try:
        if len(cells) != len(HEADER):
            raise BadInput(f"{len(cells)} fields, expected 3: time,series,value")
        series = names.get(cells[1]) or names.setdefault(cells[1], qualified(cells[1].strip()))
        return Row(line, series, instant_of(cells[0]), number_of(cells[2], series))
    except BadInput as error:
        raise BadInput(f"{name}:{line}: {error.message}") from error


def gather(rows: Iterable[Row], place: str) -> Table:
    """Rows as a table; order and repetition within each series are judged here."""
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
    """Whether a row is new; False for the same again; raises for anything else."""
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
    if not math.isfinite(tick.value):
        raise BadInput(f"{tick.series} at {instant(tick.time)}: {tick.value} is not finite")
    name = qualified(tick.series)
    return tick if name == tick.series else tick._replace(series=name)


def _conflict(series: str, time: int, before: float, after: float) -> Conflict:
    return Conflict(f"{series} at {instant(time)} is {before} and again {after}; keep one of them")


def _some(names: Sequence[str], count: int = 8) -> str:
    shown = ", ".join(names[:count])
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown
