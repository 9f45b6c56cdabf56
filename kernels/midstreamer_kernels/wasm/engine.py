"""The WebAssembly engine: what `native` computes, computed by ``dtw.wasm`` to the same bits.

The search shares its plan with the numba engine (bounds, seeds, rest; see `native.scan`) but goes
in batches: numpy picks the candidates, the module computes bounds and costs. All arrays of a search
are placed in one block, for a call into the module costs 20 microseconds.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.errors import OutOfMemoryError
from midstreamer_kernels.forms import envelope_of, normal_form
from midstreamer_kernels.plan import COUNT, FIRST, SEEDS_PER_MATCH, SLACK, SMALLEST, START
from midstreamer_kernels.stop import Stop
from midstreamer_kernels.wasm.host import Instance, session

LANES = 8  # windows compared side by side in dtw.c
BYTES_AT_ONCE = 1 << 22  # copied between two looks at the flag that ends a search

_ITEM_TYPES: dict[int, Any] = {4: np.float32, 8: np.float64}
# `struct job` of dtw.c: values, shift, scale, query, upper, lower; m, step, band, lcss, count, -.
_JOB = np.dtype([("addresses", "<u4", 6), ("numbers", "<i4", 6), ("epsilon", "<f8")])


def window_statistics(
    values: NDArray[Any],
    length: int,
    begin: int,
    end: int,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> None:
    """Fill what `native.windows.window_statistics` fills."""
    if begin >= end:
        return
    points = values[begin : end + length - 1].astype(np.float64)
    count = end - begin
    with session() as instance:
        source = instance.put(points)
        targets = instance.room(8 * count), instance.room(8 * count)
        instance.call("window_statistics", source, length, count, *targets)
        shift[begin:end] = instance.memory.read(targets[0], count, np.float64)
        scale[begin:end] = instance.memory.read(targets[1], count, np.float64)


def _at(address: int, count: int, dtype: Any) -> NDArray[Any]:
    """View `count` numbers at an address of this process."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


class _Layout:
    """Arrays to be placed in one block of memory."""

    def __init__(self) -> None:
        self.size = 0
        self._arrays: list[tuple[int, NDArray[Any]]] = []

    def room(self, size: int) -> int:
        """Reserve `size` bytes and return their offset."""
        offset = self.size
        self.size += -(-size // 16) * 16
        return offset

    def add(self, array: NDArray[Any]) -> int:
        """Reserve room for an array and return its offset."""
        offset = self.room(array.nbytes)
        self._arrays.append((offset, array))
        return offset

    def place(self, instance: Instance, stop: Stop) -> int:
        """Copy the arrays into the memory of `instance` and return where the block begins."""
        base = instance.room(self.size)
        for offset, array in self._arrays:
            address, left, place = array.ctypes.data, array.nbytes, base + offset
            while left > BYTES_AT_ONCE:
                instance.memory.write(place, address, BYTES_AT_ONCE)
                stop.check()
                left -= BYTES_AT_ONCE
                address, place = address + BYTES_AT_ONCE, place + BYTES_AT_ONCE
            instance.memory.write(place, address, left)
            stop.check()
        return base


class _Search:
    """One search: histories and query in the memory, a `struct job` for each history."""

    def __init__(
        self,
        instance: Instance,
        table: NDArray[np.int64],
        query: NDArray[np.float64],
        *,
        step: int,
        band: int,
        normalized: bool,
        lcss: bool,
        epsilon: float,
        stop: Stop,
    ) -> None:
        self._instance, self._count, self._stop = instance, len(table), stop
        self.m, self.lcss, self.candidates = query.size, lcss, int(table[:, COUNT].sum())
        layout = _Layout()
        shared = [layout.add(array) for array in (query, *_envelope(query, band))]
        jobs = np.zeros(len(table), _JOB)
        jobs["epsilon"] = epsilon
        for job, row in zip(jobs, table, strict=True):
            stop.check()
            parts = _parts(row, query.size, step, normalized)
            offsets = [layout.add(part) for part in parts]
            job["addresses"][: len(parts)] = offsets
            job["addresses"][3:] = shared
            job["numbers"] = query.size, step, band, lcss, row[COUNT], 0
        self._jobs = layout.room(jobs.nbytes)
        self._chosen = layout.room(4 * self.candidates)
        self._target = layout.room(8 * self.candidates)
        base = layout.place(instance, stop)
        jobs["addresses"][:, [0, 1, 2, 3, 4, 5] if normalized else [0, 3, 4, 5]] += base
        self._jobs, self._chosen = self._jobs + base, self._chosen + base
        self._target += base
        instance.memory.write(self._jobs, jobs.ctypes.data, jobs.nbytes)

    def bounds(self) -> NDArray[np.float64]:
        """Return a lower bound of the cost of every candidate."""
        return self._computed("bounds", self.candidates, self._jobs, self._count)

    def costs(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of the candidates with these ascending numbers."""
        if not orders.size:
            return np.empty(0)
        chosen = orders.astype(np.int32)
        self._instance.memory.write(self._chosen, chosen.ctypes.data, chosen.nbytes)
        return self._computed("costs", chosen.size, self._jobs, self._chosen, chosen.size)

    def _computed(self, name: str, count: int, *arguments: int) -> NDArray[np.float64]:
        if not self._instance.call(name, *arguments, self._target):
            raise OutOfMemoryError("no memory left for the scratch of a search")
        self._stop.check()  # what a stopped call leaves behind is no result
        return self._instance.memory.read(self._target, count, np.float64)

    def distances(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distances that belong to costs."""
        found: NDArray[np.float64] = (
            1.0 - (self.m - costs) / self.m if self.lcss else np.sqrt(costs)
        )
        return found

    def limit(self, distance: float) -> float:
        """Return the cost above which no window is within `distance`, rounding considered."""
        if self.lcss:
            return distance * self.m + 0.5
        return distance * distance * (1.0 + SLACK) + SMALLEST


def _envelope(query: NDArray[np.float64], band: int) -> tuple[NDArray[np.float64], ...]:
    """Return the upper and lower envelope, padded to an even length with what excludes nothing."""
    upper, lower = envelope_of(query, band, query.size)
    odd = query.size % 2
    return tuple(
        np.pad(side, (0, odd), constant_values=beyond)
        for side, beyond in ((upper, np.inf), (lower, -np.inf))
    )


def _parts(
    row: NDArray[np.int64], m: int, step: int, normalized: bool
) -> list[NDArray[np.float64]]:
    """Return the points that the candidates of one row cover, and their statistics."""
    values, shift, scale, item_bytes, first, count, _ = (int(entry) for entry in row)
    if not count:
        return [np.empty(0)]
    windows = (count - 1) * step + 1
    points = _at(values + item_bytes * first, windows + m - 1, _ITEM_TYPES[item_bytes])
    parts = [points.astype(np.float64, copy=False)]
    if normalized:
        parts += [_at(address + 8 * first, windows, np.float64) for address in (shift, scale)]
    return parts


def scan(
    table: NDArray[np.int64],
    step: int,
    query: NDArray[np.float64],
    k: int,
    band: int,
    normalized: bool,
    lcss: bool,
    epsilon: float,
    cutoff: float,
    shared: NDArray[np.float64],
    stop: Stop,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return what `native.scan.scan` returns for the same table; `shared` is not used."""
    wanted = normal_form(query) if normalized else query
    with session() as instance, stop.copied(instance.stop):
        search = _Search(
            instance, table, wanted, step=step, band=band,
            normalized=normalized, lcss=lcss, epsilon=epsilon, stop=stop,
        )  # fmt: skip
        orders, distances = _cascade(search, k, cutoff)
    ends = np.cumsum(table[:, COUNT])
    which = np.searchsorted(ends, orders, side="right")
    begins = ends[which] - table[which, COUNT]
    index = table[which, START] + table[which, FIRST] + (orders - begins) * step
    return which.astype(np.int64), index, distances


def _cascade(
    search: _Search, k: int, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Compare those with the least bounds, then those still possible; return the k nearest."""
    bounds = search.bounds()
    kept = min(k, bounds.size)
    limit = search.limit(cutoff)
    seeds = min(bounds.size, SEEDS_PER_MATCH * kept + 4 * LANES)
    seed_bound = np.inf if seeds == bounds.size else np.partition(bounds, seeds)[seeds]
    orders = np.flatnonzero((bounds <= seed_bound) & (bounds <= limit))
    distances = search.distances(search.costs(orders))
    if distances.size >= kept:
        limit = min(limit, search.limit(float(np.partition(distances, kept - 1)[kept - 1])))
    rest = np.flatnonzero((bounds > seed_bound) & (bounds <= limit))
    orders = np.concatenate([orders, rest])
    distances = np.concatenate([distances, search.distances(search.costs(rest))])
    within = distances <= cutoff
    orders, distances = orders[within], distances[within]
    nearest = np.lexsort((orders, distances))[:kept]
    return orders[nearest], distances[nearest]
