"""A cache of stored ticks in blocks, for `midstreamer db check`.

The check reads most ticks many times, because consecutive decisions have matches at the same
positions of the same series.  If the whole store fits into the cache, each block is read once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from midstreamer.store.row_checks import Ticks

BLOCK_POINTS = 1024
"""Points in one block."""
BLOCKS_KEPT = 4096
"""Maximum blocks in the cache: 67 MB at 16 bytes a point. While one decision is checked, the cache
holds all blocks that it needs, even if they are more."""
BLOCKS_A_READ = 256
"""Maximum blocks read by one query."""
POSITION_MAX = 2**48
"""Largest position that the cache reads. No series is that long, but a corrupt row may name any
position."""

Place = tuple[str, int]
"""Key of a block: (series, number of the block in the series)."""


class Reader(Protocol):
    """A connection that returns the rows of a named query."""

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """Return all rows of a named query."""


class _Block(NamedTuple):
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    """`times` and `values` hold the block's points, up to the first position without a point."""


_EMPTY = _Block(np.empty(0, "<i8"), np.empty(0, "<f8"))


class Blocks:
    """The cache; returns ticks by series and position."""

    def __init__(self, reader: Reader, *, kept: int = BLOCKS_KEPT) -> None:
        self._reader = reader
        self._kept = kept
        self._blocks: OrderedDict[Place, _Block] = OrderedDict()

    async def runs(
        self, asked: Iterable[tuple[str, int, int]]
    ) -> dict[tuple[str, int, int], Ticks | None]:
        """Return the ticks of each run (series, start, stop), with ``stop`` excluded.

        The value of a run is None if one of its ticks is not stored.
        """
        wanted = {run: _places(*run) for run in asked}
        places = {place for several in wanted.values() for place in several}
        await self._read(sorted(place for place in places if place not in self._blocks))
        for place in places:
            self._blocks.move_to_end(place)
        ticks = {run: self._cut(several, *run[1:]) for run, several in wanted.items()}
        while len(self._blocks) > self._kept:
            self._blocks.popitem(last=False)
        return ticks

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
    """Return whether a series can have these positions; a corrupt row may name any numbers."""
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
