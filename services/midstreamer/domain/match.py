"""Matches: the past windows nearest to a query, each with the outcome that followed it.

They are stored by column, because a decision keeps about a hundred of them and sends them through
three processes. `merge` sorts by (distance, series, start), so the result does not depend on how
the history is sharded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from midstreamer.domain.series import Floats, Integers


class Match(NamedTuple):
    """One analog as a row, for people and tests. Processes exchange `Matches` instead."""

    series: str
    start: int
    time: int
    distance: float
    outcome: float


class Matches(msgspec.Struct, frozen=True):
    """k analogs, nearest first; equal distances are ordered by series name, then by start."""

    series: tuple[str, ...] = ()
    """Names of the series, each once, sorted."""
    which: bytes = b""
    """uint16, shape (k,): the series of each analog, as a position in ``series``."""
    start: bytes = b""
    """int64, shape (k,): position of the window's first point in its series."""
    time: bytes = b""
    """int64, shape (k,): event time of the window's last point."""
    distance: bytes = b""
    """float64, shape (k,): distance of each analog to the query."""
    outcome: bytes = b""
    """float64, shape (k,): the change that followed each analog, divided by the analog's own scale.
    """

    def __len__(self) -> int:
        return len(self.which) // 2

    def which_array(self) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """Return each analog's series as a position in ``series``, uint16, (k,), read-only."""
        return np.frombuffer(self.which, dtype="<u2")

    def start_array(self) -> Integers:
        """Return the positions of the first points in their series, int64, (k,), read-only."""
        return np.frombuffer(self.start, dtype="<i8")

    def time_array(self) -> Integers:
        """Return the event times of the last points in microseconds, int64, (k,), read-only."""
        return np.frombuffer(self.time, dtype="<i8")

    def distance_array(self) -> Floats:
        """Return the distances, float64, shape (k,), read-only."""
        return np.frombuffer(self.distance, dtype="<f8")

    def outcome_array(self) -> Floats:
        """Return the scaled outcomes, float64, shape (k,), read-only."""
        return np.frombuffer(self.outcome, dtype="<f8")

    def __iter__(self) -> Iterator[Match]:
        names = self.series
        rows = zip(
            self.which_array(),
            self.start_array(),
            self.time_array(),
            self.distance_array(),
            self.outcome_array(),
            strict=True,
        )
        for which, start, time, distance, outcome in rows:
            yield Match(names[which], int(start), int(time), float(distance), float(outcome))


def from_rows(rows: Sequence[Match], k: int | None = None) -> Matches:
    """Return the ``k`` nearest rows as `Matches`, or all rows when ``k`` is None.

    The rows may be given in any order.
    """
    ordered = sorted(rows, key=lambda row: (row.distance, row.series, row.start))[:k]
    names = tuple(sorted({row.series for row in ordered}))
    place = {name: position for position, name in enumerate(names)}
    return Matches(
        names,
        np.array([place[row.series] for row in ordered], dtype="<u2").tobytes(),
        np.array([row.start for row in ordered], dtype="<i8").tobytes(),
        np.array([row.time for row in ordered], dtype="<i8").tobytes(),
        np.array([row.distance for row in ordered], dtype="<f8").tobytes(),
        np.array([row.outcome for row in ordered], dtype="<f8").tobytes(),
    )


def merge(parts: Sequence[Matches], k: int) -> Matches:
    """Return the ``k`` nearest matches of several results, which cover disjoint shards."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Matches()
    names = tuple(sorted({name for part in parts for name in part.series}))
    place = {name: position for position, name in enumerate(names)}
    which = np.concatenate(
        [
            np.array([place[name] for name in part.series], dtype="<u2")[part.which_array()]
            for part in parts
        ]
    )
    start = np.concatenate([part.start_array() for part in parts])
    distance = np.concatenate([part.distance_array() for part in parts])
    order = np.lexsort((start, which, distance))[:k]
    kept = np.unique(which[order])
    renamed = np.searchsorted(kept, which[order]).astype("<u2")
    return Matches(
        tuple(names[position] for position in kept),
        renamed.tobytes(),
        start[order].tobytes(),
        np.concatenate([part.time_array() for part in parts])[order].tobytes(),
        distance[order].tobytes(),
        np.concatenate([part.outcome_array() for part in parts])[order].tobytes(),
    )
