"""Stored ticks in blocks, kept in memory up to a bound: `db check` reads most of them many times.

Matches of neighbouring decisions lie in the same places of the same series, so each block is read
once where the whole store fits into the bound, and seldom again where it does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from midstreamer.store.findings import Ticks

BLOCK_POINTS = 1024
BLOCKS_KEPT = 4096
"""16 bytes a point: 67 MB at most, but for what one decision needs by itself."""
BLOCKS_A_READ = 256
POSITION_MAX = 2**48

Place = tuple[str, int]
"""Series, number of the block in it."""


class Reader(Protocol):
    """What is needed of a connection: rows of a named query."""

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """All rows of a query."""


class _Block(NamedTuple):
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    """Both as far as points are there from the block's first position on without a gap."""


_EMPTY = _Block(np.empty(0, "<i8"), np.empty(0, "<f8"))


class Blocks:
    """Ticks by series and position."""

    def __init__(self, reader: Reader, *, kept: int = BLOCKS_KEPT) -> None:
        self._reader = reader
        self._kept = kept
        self._blocks: OrderedDict[Place, _Block] = OrderedDict()

    async def runs(
        self, asked: Iterable[tuple[str, int, int]]
    ) -> dict[tuple[str, int, int], Ticks | None]:
        """The ticks of each (series, first, end); None where one of them is not stored."""
        wanted = {run: _places(*run) for run in asked}
        places = {place for several in wanted.values() for place in several}
        await self._read(sorted(place for place in places if place not in self._blocks))
        for place in places:
            self._blocks.move_to_end(place)
        made = {run: self._cut(several, *run[1:]) for run, several in wanted.items()}
        while len(self._blocks) > self._kept:
            self._blocks.popitem(last=False)
        return made

    async def _read(self, places: list[Place]) -> None:
        for begin in range(0, len(places), BLOCKS_A_READ):
            part = places[begin : begin + BLOCKS_A_READ]
            names = [name for name, _ in part]
            starts = [number * BLOCK_POINTS for _, number in part]
            stops = [start + BLOCK_POINTS for start in starts]
            self._blocks.update(dict.fromkeys(part, _EMPTY))
            for row in await self._reader.fetch("audit_runs", names, starts, stops):
                self._blocks[part[row["place"] - 1]] = _block(row, starts[row["place"] - 1])

    def _cut(self, places: list[Place], start: int, stop: int) -> Ticks | None:
        if not places:
            return None
        parts = [self._blocks[place] for place in places]
        first = places[0][1] * BLOCK_POINTS
        if any(len(part.times) < BLOCK_POINTS for part in parts[:-1]):
            return None
        times, values = (
            parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        )
        if stop - first > len(times):
            return None
        return Ticks(times[start - first : stop - first], values[start - first : stop - first])


def _possible(start: int, stop: int) -> bool:
    """Whether a series can have these positions; changed bytes may ask for any."""
    return 0 <= start < stop <= POSITION_MAX


def _places(series: str, start: int, stop: int) -> list[Place]:
    if not _possible(start, stop):
        return []
    blocks = range(start // BLOCK_POINTS, (stop - 1) // BLOCK_POINTS + 1)
    return [(series, number) for number in blocks]


def _block(row: Any, start: int) -> _Block:
    at = np.frombuffer(row["indices"], ">i8")
    gaps = np.flatnonzero(at != np.arange(start, start + len(at)))
    count = int(gaps[0]) if gaps.size else len(at)
    times = np.frombuffer(row["times"], ">i8").astype("<i8")[:count]
    return _Block(times, np.frombuffer(row["values"], ">f8").astype("<f8")[:count])
