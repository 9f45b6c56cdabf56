"""Search and window statistics of the WebAssembly engine, with the same bits as `native`.

The search has the same steps as that of the numba engine (bounds, seeds, remaining windows; see
`native.history_scan`), but works in batches: numpy selects the candidates, and ``dtw.wasm``
computes bounds and costs. A call into the module takes about 20 microseconds, so there are few
calls. For example, all arrays of a search are copied to one block of the module's memory, which one
call allocates.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.errors import OutOfMemoryError
from midstreamer_kernels.normal_forms import envelope_of, normal_form
from midstreamer_kernels.search_inputs import (
    COUNT,
    FIRST,
    SEEDS_PER_MATCH,
    SLACK,
    SMALLEST,
    START,
    SearchOptions,
)
from midstreamer_kernels.stop import Stop
from midstreamer_kernels.value_of_rank import value_of_rank
from midstreamer_kernels.wasm.host import Instance, session

LANES = 8  # windows that dtw.c compares at once
BYTES_AT_ONCE = 1 << 22  # bytes copied between two checks of the stop flag

_ITEM_TYPES: dict[int, Any] = {4: np.float32, 8: np.float64}
# Layout of `struct job` in dtw.c. The six addresses are those of values, shift, scale, query, upper
# and lower. The six numbers are m, step, band, lcss, count and an unused one.
_JOB = np.dtype([("addresses", "<u4", 6), ("numbers", "<i4", 6), ("epsilon", "<f8")])


def window_statistics(
    values: NDArray[Any],
    length: int,
    begin: int,
    end: int,
    shift: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> None:
    """Fill `shift` and `scale` for the windows of `length` points that begin in [begin, end).

    The result has the same bits as that of `native.windows.window_statistics`.
    """
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
    """Return a view of `count` numbers of type `dtype` at an address of this process."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


class _Layout:
    """Layout of several arrays in one block of a module's memory, aligned to 16 bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._arrays: list[tuple[int, NDArray[Any]]] = []

    def room(self, size: int) -> int:
        """Reserve `size` bytes; return their offset in the block."""
        offset = self.size
        self.size += -(-size // 16) * 16
        return offset

    def add(self, array: NDArray[Any]) -> int:
        """Reserve room for `array`, which `place` will copy; return its offset in the block."""
        offset = self.room(array.nbytes)
        self._arrays.append((offset, array))
        return offset

    def place(self, instance: Instance, stop: Stop) -> int:
        """Copy the arrays into the memory of `instance`; return the pointer to the block.

        Raises `StoppedError` if `stop` is set.
        """
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
    """One running search: histories, query and one `struct job` per history in module memory."""

    def __init__(
        self,
        instance: Instance,
        table: NDArray[np.int64],
        query: NDArray[np.float64],
        options: SearchOptions,
        stop: Stop,
    ) -> None:
        self._instance, self._count, self._stop = instance, len(table), stop
        self.m, self.lcss, self.candidates = query.size, options.lcss, int(table[:, COUNT].sum())
        layout = _Layout()
        shared = [layout.add(array) for array in (query, *_envelope(query, options.band))]
        jobs = np.zeros(len(table), _JOB)
        jobs["epsilon"] = options.epsilon
        for job, row in zip(jobs, table, strict=True):
            stop.check()
            parts = _parts(row, query.size, options.step, options.normalized)
            offsets = [layout.add(part) for part in parts]
            job["addresses"][: len(parts)] = offsets
            job["addresses"][3:] = shared
            job["numbers"] = query.size, options.step, options.band, options.lcss, row[COUNT], 0
        self._jobs = layout.room(jobs.nbytes)
        self._chosen = layout.room(4 * self.candidates)
        self._target = layout.room(8 * self.candidates)
        base = layout.place(instance, stop)
        jobs["addresses"][:, [0, 1, 2, 3, 4, 5] if options.normalized else [0, 3, 4, 5]] += base
        self._jobs, self._chosen = self._jobs + base, self._chosen + base
        self._target += base
        instance.memory.write(self._jobs, jobs.ctypes.data, jobs.nbytes)

    def bounds(self) -> NDArray[np.float64]:
        """Return lower bounds of the costs of all candidates, shape (candidates,), float64.

        A cost is a squared DTW distance, or for LCSS the number of points without a match.
        """
        return self._computed("bounds", self.candidates, self._jobs, self._count)

    def costs(self, orders: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of the candidates with the ascending numbers `orders`, float64."""
        if not orders.size:
            return np.empty(0)
        chosen = orders.astype(np.int32)
        self._instance.memory.write(self._chosen, chosen.ctypes.data, chosen.nbytes)
        return self._computed("costs", chosen.size, self._jobs, self._chosen, chosen.size)

    def _computed(self, name: str, count: int, *arguments: int) -> NDArray[np.float64]:
        if not self._instance.call(name, *arguments, self._target):
            raise OutOfMemoryError(
                "no memory left for the scratch of a search in a WebAssembly memory of at most "
                "4 GiB: search fewer windows at a time"
            )
        self._stop.check()  # raises if the search was stopped: then the result is not valid
        return self._instance.memory.read(self._target, count, np.float64)

    def distances(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `costs` converted to distances, DTW or LCSS."""
        found: NDArray[np.float64] = (
            1.0 - (self.m - costs) / self.m if self.lcss else np.sqrt(costs)
        )
        return found

    def limit(self, distance: float) -> float:
        """Return the greatest cost of a window within `distance`, with a tolerance for rounding."""
        if self.lcss:
            return distance * self.m + 0.5
        return distance * distance * (1.0 + SLACK) + SMALLEST


def _envelope(query: NDArray[np.float64], band: int) -> tuple[NDArray[np.float64], ...]:
    """Return the upper and the lower envelope of `query`, padded to an even length.

    The padding is +inf above and -inf below, so no point lies outside of it.
    """
    upper, lower = envelope_of(query, band, query.size)
    odd = query.size % 2
    return tuple(
        np.pad(side, (0, odd), constant_values=beyond)
        for side, beyond in ((upper, np.inf), (lower, -np.inf))
    )


def _parts(
    row: NDArray[np.int64], m: int, step: int, normalized: bool
) -> list[NDArray[np.float64]]:
    """Return a list with the points from the first to the last candidate of a history, float64.

    `row` is the history's row in the table. If `normalized`, the list also has the shifts and the
    scales of all windows from the first to the last candidate.
    """
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
    query: NDArray[np.float64],
    options: SearchOptions,
    shared: NDArray[np.float64],
    stop: Stop,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (which, index, distance) of the k nearest windows of all histories in `table`.

    Arguments and result are those of `native.history_scan.scan`; `shared` is not used.
    """
    wanted = normal_form(query) if options.normalized else query
    with session() as instance, stop.copied(instance.stop):
        search = _Search(instance, table, wanted, options, stop)
        orders, distances = _cascade(search, options.k, options.cutoff)
    ends = np.cumsum(table[:, COUNT])
    which = np.searchsorted(ends, orders, side="right")
    begins = ends[which] - table[which, COUNT]
    index = table[which, START] + table[which, FIRST] + (orders - begins) * options.step
    return which.astype(np.int64), index, distances


def _cascade(
    search: _Search, k: int, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the candidate numbers and distances of the k nearest windows within `cutoff`.

    The candidates with the least bounds are compared first. Then those are compared whose bound is
    within the k-th best distance so far.
    """
    bounds = search.bounds()
    kept = min(k, bounds.size)
    limit = search.limit(cutoff)
    seeds = min(bounds.size, SEEDS_PER_MATCH * kept + 4 * LANES)
    seed_bound = np.inf if seeds == bounds.size else value_of_rank(bounds, seeds)
    orders = np.flatnonzero((bounds <= seed_bound) & (bounds <= limit))
    distances = search.distances(search.costs(orders))
    if distances.size >= kept:
        limit = min(limit, search.limit(value_of_rank(distances, kept - 1)))
    rest = np.flatnonzero((bounds > seed_bound) & (bounds <= limit))
    orders = np.concatenate([orders, rest])
    distances = np.concatenate([distances, search.distances(search.costs(rest))])
    within = distances <= cutoff
    orders, distances = orders[within], distances[within]
    nearest = np.lexsort((orders, distances))[:kept]
    return orders[nearest], distances[nearest]
