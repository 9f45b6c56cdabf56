"""Run WebAssembly: the module of this package, and modules of others in a sandbox.

The one place that knows wasmtime. Our own module is compiled once and instantiated once per
thread, so calls from several threads never share memory. A module of others gets a fresh instance
for every call, with its own memory limit and fuel: nothing it does outlives the call, and any
number of threads may use it. Whatever it does wrong ends in a `ModuleError`.

The search shares its plan with the numba engine (bounds, seeds, rest; see `native.scan`) but goes
in batches: numpy picks the candidates, the module computes bounds and costs.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import wasmtime
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels import series
from midstreamer_kernels.errors import (
    ModuleError,
    ModuleLoadError,
    OutOfFuelError,
    OutOfMemoryError,
    ResultError,
    TrapError,
)
from midstreamer_kernels.plan import COUNT, FIRST, SEEDS_PER_MATCH, SLACK, SMALLEST, START

MODULE = Path(__file__).with_name("dtw.wasm")
MODULE_BYTES_MAX = 16 * 1024 * 1024  # compiling is not metered by fuel: refuse what is absurd
PAGE_BYTES = 65_536
LANES = 8  # windows compared side by side in dtw.c

_ITEM_TYPES: dict[int, Any] = {4: np.float32, 8: np.float64}
# `struct job` of dtw.c: six addresses, four whole numbers, epsilon.
_JOB = np.dtype([("addresses", "<u4", 6), ("numbers", "<i4", 4), ("epsilon", "<f8")])


class _Memory:
    """The memory of an instance: arrays in, arrays out."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store, self._memory = store, memory

    def _address(self, pointer: int, size: int) -> int:
        # Asked anew each time: a memory that grew may have moved.
        if pointer <= 0 or pointer + size > self._memory.data_len(self._store):
            raise OutOfMemoryError(
                f"the module's alloc({size}) returned {pointer}, outside of its memory of "
                f"{self._memory.data_len(self._store):,} B: allow more memory_bytes"
            )
        return ctypes.addressof(self._memory.data_ptr(self._store).contents) + pointer

    def write(self, pointer: int, address: int, size: int) -> None:
        ctypes.memmove(self._address(pointer, size), address, size)

    def read(self, pointer: int, count: int, dtype: Any) -> NDArray[Any]:
        target = np.empty(count, dtype)
        ctypes.memmove(target.ctypes.data, self._address(pointer, target.nbytes), target.nbytes)
        return target


def _unsigned(pointer: int) -> int:
    return pointer & 0xFFFF_FFFF


# Our own module


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    engine = wasmtime.Engine(_configuration())
    return engine, wasmtime.Module(engine, MODULE.read_bytes())


def _configuration() -> wasmtime.Config:
    configuration = wasmtime.Config()
    configuration.wasm_simd = True
    configuration.wasm_relaxed_simd = False  # results would depend on the host
    configuration.wasm_threads = False
    configuration.wasm_memory64 = False
    return configuration


class _Instance:
    """One instance of our module, used by one thread."""

    def __init__(self) -> None:
        engine, module = _compiled()
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._functions: dict[str, Any] = {
            export.name: exports[export.name]
            for export in module.exports
            if isinstance(export.type, wasmtime.FuncType)
        }
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = _Memory(self._store, memory)

    def call(self, name: str, *arguments: float) -> Any:
        return self._functions[name](self._store, *arguments)

    def room(self, size: int) -> int:
        """Allocate `size` bytes."""
        pointer = _unsigned(self.call("alloc", size)) if size < 2**31 else 0
        if not pointer:
            raise OutOfMemoryError(f"no {size:,} B left in a WebAssembly memory of at most 4 GiB")
        return pointer

    def put(self, array: NDArray[Any]) -> int:
        """Copy an array into the memory and return where it lies."""
        pointer = self.room(array.nbytes)
        self.memory.write(pointer, array.ctypes.data, array.nbytes)
        return pointer


_local = threading.local()


@contextmanager
def _session() -> Iterator[_Instance]:
    """Lend this thread's instance; what is allocated meanwhile is given back."""
    instance = getattr(_local, "instance", None)
    if instance is None:
        instance = _local.instance = _Instance()
    mark = instance.room(0)
    try:
        yield instance
    finally:
        instance.call("release", mark)


def _computed(value: float) -> float:
    if value < 0:
        raise OutOfMemoryError("no memory left for the diagonals of so long a pair")
    return value


def dtw_squared(a: NDArray[Any], b: NDArray[Any], band: int, limit: float) -> float:
    """Return what `native.pairs.dtw_squared` returns."""
    name = "dtw_f32" if a.dtype == np.float32 else "dtw_f64"
    with _session() as instance:
        result = instance.call(name, instance.put(a), a.size, instance.put(b), b.size, band, limit)
    return float(_computed(result))


def lcss_length(a: NDArray[Any], b: NDArray[Any], epsilon: float, band: int) -> int:
    """Return what `native.pairs.lcss_length` returns."""
    with _session() as instance:
        result = instance.call(
            "lcss_length", instance.put(a), a.size, instance.put(b), b.size, epsilon, band
        )
    return int(_computed(result))


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
    with _session() as instance:
        source = instance.put(points)
        targets = instance.room(8 * count), instance.room(8 * count)
        instance.call("window_statistics", source, length, count, *targets)
        shift[begin:end] = instance.memory.read(targets[0], count, np.float64)
        scale[begin:end] = instance.memory.read(targets[1], count, np.float64)


def _at(address: int, count: int, dtype: Any) -> NDArray[Any]:
    """View `count` numbers at an address of this process."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


class _Job:
    """One search, with its query in the memory and one `struct job` for each history."""

    def __init__(
        self,
        instance: _Instance,
        query: NDArray[np.float64],
        *,
        step: int,
        band: int,
        normalized: bool,
        lcss: bool,
        epsilon: float,
    ) -> None:
        self._instance, self._normalized = instance, normalized
        self.m, self.step, self.lcss = query.size, step, lcss
        around = np.lib.stride_tricks.sliding_window_view(
            np.pad(query, band, mode="edge"), 2 * band + 1
        )
        self._query = [
            instance.put(np.ascontiguousarray(values))
            for values in (query, around.max(axis=1), around.min(axis=1))
        ]
        self._numbers = (self.m, step, band, int(lcss))
        self._epsilon = epsilon

    def place(self, row: NDArray[np.int64]) -> int:
        """Copy the candidates of one row of the table into the memory; return their job."""
        values, shift, scale, item_bytes, first, count, _ = (int(entry) for entry in row)
        spread = (count - 1) * self.step + 1
        points = _at(values + item_bytes * first, spread + self.m - 1, _ITEM_TYPES[item_bytes])
        addresses = [self._instance.put(points.astype(np.float64)), 0, 0, *self._query]
        if self._normalized:
            addresses[1] = self._instance.put(_at(shift + 8 * first, spread, np.float64))
            addresses[2] = self._instance.put(_at(scale + 8 * first, spread, np.float64))
        job = np.zeros(1, _JOB)
        job["addresses"], job["numbers"], job["epsilon"] = addresses, self._numbers, self._epsilon
        return self._instance.put(job)

    def bounds(self, job: int, count: int) -> NDArray[np.float64]:
        target = self._instance.room(8 * count)
        return self._result("bounds", job, count, count, target)

    def costs(self, job: int, chosen: NDArray[np.int32]) -> NDArray[np.float64]:
        mark = self._instance.room(0)
        source, target = self._instance.put(chosen), self._instance.room(8 * chosen.size)
        result = self._result("costs", job, chosen.size, source, chosen.size, target)
        self._instance.call("release", mark)
        return result

    def _result(self, name: str, job: int, count: int, *arguments: int) -> NDArray[np.float64]:
        if not self._instance.call(name, job, *arguments):
            raise OutOfMemoryError("no memory left for the scratch of a search")
        return self._instance.memory.read(arguments[-1], count, np.float64)

    def distances(self, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (
            1.0 - (self.m - costs) / self.m if self.lcss else np.sqrt(costs)
        )
        return found

    def limit(self, distance: float) -> float:
        """Return the cost above which no window is within `distance`, rounding considered."""
        if self.lcss:
            return distance * self.m + 0.5
        return distance * distance * (1.0 + SLACK) + SMALLEST


def _normal(query: NDArray[np.float64]) -> NDArray[np.float64]:
    shift, scale = np.empty(1), np.empty(1)
    window_statistics(query, query.size, 0, 1, shift, scale)
    normal: NDArray[np.float64] = (query - query[0] - shift[0]) * scale[0]
    return normal


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
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return what `native.scan.scan` returns for the same table."""
    wanted = _normal(query) if normalized else query
    with _session() as instance:
        search = _Job(
            instance, wanted, step=step, band=band,
            normalized=normalized, lcss=lcss, epsilon=epsilon,
        )  # fmt: skip
        jobs = [search.place(row) if row[COUNT] else 0 for row in table]
        ends = np.cumsum(table[:, COUNT])
        bounds = np.concatenate(
            [search.bounds(job, int(row[COUNT])) for job, row in zip(jobs, table, strict=True) if job]
        )
        costs = functools.partial(_costs_of, search, jobs, ends)
        orders, distances = _cascade(search, bounds, costs, k, cutoff)
    which = np.searchsorted(ends, orders, side="right")
    begins = ends[which] - table[which, COUNT]
    index = table[which, START] + table[which, FIRST] + (orders - begins) * step
    return which.astype(np.int64), index, distances


def _costs_of(
    search: _Job, jobs: list[int], ends: NDArray[np.int64], orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compare the candidates with these ascending numbers, history by history."""
    cuts = np.searchsorted(orders, ends)
    parts, begin = [np.empty(0)], 0
    for which, cut in enumerate(cuts):
        if cut > begin:
            offset = ends[which - 1] if which else 0
            parts.append(search.costs(jobs[which], (orders[begin:cut] - offset).astype(np.int32)))
        begin = int(cut)
    return np.concatenate(parts)


def _cascade(
    search: _Job,
    bounds: NDArray[np.float64],
    costs: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    k: int,
    cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Compare those with the least bounds, then those still possible; return the k nearest."""
    kept = min(k, bounds.size)
    limit = search.limit(cutoff)
    seeds = min(bounds.size, SEEDS_PER_MATCH * kept + 4 * LANES)
    seed_bound = np.inf if seeds == bounds.size else np.partition(bounds, seeds)[seeds]
    orders = np.flatnonzero((bounds <= seed_bound) & (bounds <= limit))
    distances = search.distances(costs(orders))
    if distances.size >= kept:
        limit = min(limit, search.limit(float(np.partition(distances, kept - 1)[kept - 1])))
    rest = np.flatnonzero((bounds > seed_bound) & (bounds <= limit))
    orders = np.concatenate([orders, rest])
    distances = np.concatenate([distances, search.distances(costs(rest))])
    within = distances <= cutoff
    orders, distances = orders[within], distances[within]
    nearest = np.lexsort((orders, distances))[:kept]
    return orders[nearest], distances[nearest]


# Modules of others

_I32, _F32 = "i32", "f32"
_CONTRACT: dict[str, tuple[list[str], list[str]]] = {
    "alloc": ([_I32], [_I32]),
    "dtw_compare": ([_I32] * 4, [_F32]),
}


class KernelModule:
    """A user's own measure as a WebAssembly module, in a sandbox.

    The module exports `memory`, ``alloc(i32) -> i32`` and
    ``dtw_compare(i32 pointer, i32 count, i32 pointer, i32 count) -> f32`` on float32 arrays, and
    imports nothing: it can compute and nothing else. Every call runs in a fresh instance.

    Parameters
    ----------
    path_or_bytes : path or bytes
        A module in binary form, at most 16 MiB.
    fuel : int
        Instructions, about, that one call may execute, instantiation included.
    memory_bytes : int
        The most memory an instance may have; whole pages of 64 KiB count.

    Raises
    ------
    ModuleLoadError
        Not a module, it imports something, or an export is missing or has another type.
    """

    def __init__(
        self, path_or_bytes: str | PathLike[str] | bytes, *, fuel: int, memory_bytes: int
    ) -> None:
        self.fuel, self.memory_bytes = fuel, memory_bytes
        code, self.name = _read(path_or_bytes)
        configuration = _configuration()
        configuration.consume_fuel = True
        self._engine = wasmtime.Engine(configuration)
        try:
            self._module = wasmtime.Module(self._engine, code)
        except wasmtime.WasmtimeError as error:
            raise ModuleLoadError(f"{self.name} is not a WebAssembly module: {error}") from error
        _check_contract(self.name, self._module)

    def distance(self, a: ArrayLike, b: ArrayLike) -> float:
        """Return what the module's ``dtw_compare`` says about two series, given as float32.

        Raises
        ------
        OutOfFuelError, OutOfMemoryError, TrapError
            The call was stopped; the next one starts afresh.
        ResultError
            It returned NaN or a negative number.
        InputError
        """
        left = series.filled(a, name="a", dtype=np.float32)
        right = series.filled(b, name="b", dtype=np.float32)
        with self._translated():
            distance = self._compare(left, right)
        if not distance >= 0.0:
            raise ResultError(f"{self.name} returned {distance} as a distance")
        return distance

    def _compare(self, a: NDArray[Any], b: NDArray[Any]) -> float:
        store = wasmtime.Store(self._engine)
        store.set_fuel(self.fuel)
        store.set_limits(
            memory_size=self.memory_bytes, table_elements=100_000, instances=1, memories=1
        )
        exports = wasmtime.Instance(store, self._module, []).exports(store)
        functions: dict[str, Any] = {name: exports[name] for name in _CONTRACT}
        exported = exports["memory"]
        assert isinstance(exported, wasmtime.Memory)  # the contract was checked
        memory = _Memory(store, exported)
        arguments = []
        for array in (a, b):
            pointer = _unsigned(functions["alloc"](store, array.nbytes))
            memory.write(pointer, array.ctypes.data, array.nbytes)
            arguments += [pointer, array.size]
        return float(functions["dtw_compare"](store, *arguments))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except wasmtime.Trap as trap:
            # The message ends with the guest's backtrace; the cause is enough here.
            if trap.trap_code == wasmtime.TrapCode.OUT_OF_FUEL:
                raise OutOfFuelError(
                    f"{self.name} used up fuel={self.fuel:,}: give more, or shorter series"
                ) from trap
            reason = trap.trap_code.name.lower() if trap.trap_code else str(trap)
            raise TrapError(f"{self.name} trapped: {reason}") from trap
        except wasmtime.WasmtimeError as error:
            if "memory" in str(error):
                raise OutOfMemoryError(
                    f"{self.name} wants more than memory_bytes={self.memory_bytes:,}: {error}"
                ) from error
            raise ModuleError(f"{self.name} failed: {error}") from error


def _read(path_or_bytes: str | PathLike[str] | bytes) -> tuple[bytes, str]:
    if isinstance(path_or_bytes, bytes):
        code, name = path_or_bytes, "the module"
    else:
        path = Path(path_or_bytes)
        try:
            with path.open("rb") as file:
                code, name = file.read(MODULE_BYTES_MAX + 1), path.name
        except OSError as error:
            raise ModuleLoadError(f"{path} cannot be read: {error.strerror}") from error
    if len(code) > MODULE_BYTES_MAX:
        raise ModuleLoadError(f"{name} is larger than {MODULE_BYTES_MAX:,} B")
    return code, name


def _check_contract(name: str, module: wasmtime.Module) -> None:
    for wanted in module.imports:
        raise ModuleLoadError(
            f"{name} imports {wanted.module}.{wanted.name}: a kernel may import nothing"
        )
    exports = {export.name: export.type for export in module.exports}
    if not isinstance(exports.get("memory"), wasmtime.MemoryType):
        raise ModuleLoadError(f"{name} exports no memory named 'memory'")
    for function, contract in _CONTRACT.items():
        found = exports.get(function)
        if not isinstance(found, wasmtime.FuncType):
            raise ModuleLoadError(f"{name} exports no function named {function!r}")
        types = [str(t) for t in found.params], [str(t) for t in found.results]
        if types != contract:
            raise ModuleLoadError(
                f"{name} exports {function!r} as {types[0]} -> {types[1]}, "
                f"not as {contract[0]} -> {contract[1]}"
            )
