"""Run WebAssembly: the module of this package, and modules of others in a sandbox.

The one place that knows wasmtime. Our own module is compiled once and instantiated once per
thread, so calls from several threads never share memory. A module of others gets a fresh instance
for every call, with its own memory limit and fuel: nothing it does outlives the call, and any
number of threads may use it. Whatever it does wrong ends in a `ModuleError`.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import wasmtime
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels import series
from midstreamer_kernels.errors import (
    ModuleError,
    ModuleLoadError,
    OptionError,
    OutOfFuelError,
    OutOfMemoryError,
    ResultError,
    TrapError,
)
from midstreamer_kernels.options import checked_count

MODULE = Path(__file__).with_name("dtw.wasm")
MODULE_BYTES_MAX = 16 * 1024 * 1024  # compiling is not metered by fuel: refuse what is absurd
FUEL_MAX = 2**63 - 1
MEMORY_BYTES_MAX = 2**32  # what 32-bit addresses reach


class Memory:
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
        return self.address() + pointer

    def address(self) -> int:
        """Return where the memory begins in this process, until it grows."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)

    def view(self, pointer: int, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes of a memory that never moves, as they are at any time."""
        place = self._address(pointer, size)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(place))

    def write(self, pointer: int, address: int, size: int) -> None:
        """Copy `size` bytes from an address of this process."""
        ctypes.memmove(self._address(pointer, size), address, size)

    def read(self, pointer: int, count: int, dtype: Any) -> NDArray[Any]:
        """Return a copy of `count` numbers."""
        target = np.empty(count, dtype)
        ctypes.memmove(target.ctypes.data, self._address(pointer, target.nbytes), target.nbytes)
        return target


def _unsigned(pointer: int) -> int:
    return pointer & 0xFFFF_FFFF


# Our own module


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    configuration = _configuration()
    # Another thread may write to the cell of `Instance.stop` while this one lets the memory grow.
    configuration.memory_may_move = False
    engine = wasmtime.Engine(configuration)
    return engine, wasmtime.Module(engine, MODULE.read_bytes())


def _configuration() -> wasmtime.Config:
    configuration = wasmtime.Config()
    configuration.wasm_simd = True
    configuration.wasm_relaxed_simd = False  # results would depend on the host
    configuration.wasm_threads = False
    configuration.wasm_memory64 = False
    return configuration


class Instance:
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
        self.memory = Memory(self._store, cast("wasmtime.Memory", exports["memory"]))
        self.pair_place = int(self.call("pair_place"))
        """Where the module has its `struct pair`."""
        self.stop = self.memory.view(int(self.call("stop_place")), 1)
        """The byte that ends a search in this instance: see `Stop.copied`."""
        self._kept = 0, 0

    def call(self, name: str, *arguments: float) -> Any:
        """Call an exported function; about 5 microseconds, and as many for each argument."""
        return self._functions[name](self._store, *arguments)

    def kept(self, size: int) -> int:
        """Return a block of at least `size` bytes that lasts until a larger one is asked for.

        Only outside of sessions, which give back what was allocated after their begin.
        """
        pointer, kept = self._kept
        if size > kept:
            if kept:
                self.call("release", pointer)
            self._kept = 0, 0
            self._kept = self.room(size), size
        return self._kept[0]

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


def instance_here() -> Instance:
    """Return this thread's instance."""
    instance: Instance | None = getattr(_local, "instance", None)
    if instance is None:
        instance = _local.instance = Instance()
    return instance


@contextmanager
def session() -> Iterator[Instance]:
    """Lend this thread's instance; what is allocated meanwhile is given back."""
    instance = instance_here()
    mark = instance.room(0)
    try:
        yield instance
    finally:
        instance.call("release", mark)


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
    path_or_bytes : path, bytes or bytearray
        A module in binary form, at most 16 MiB.
    fuel : int
        Instructions, about, that one call may execute, instantiation included.
    memory_bytes : int
        The most memory an instance may have; whole pages of 64 KiB count.

    Raises
    ------
    OptionError
        A limit below 1 or beyond 64 bits of fuel, 4 GiB of memory; neither a path nor bytes.
    ModuleLoadError
        Not a module, it imports something, or an export is missing or has another type.
    """

    def __init__(
        self,
        path_or_bytes: str | PathLike[str] | bytes | bytearray,
        *,
        fuel: int,
        memory_bytes: int,
    ) -> None:
        self.fuel = checked_count(fuel, name="fuel", most=FUEL_MAX)
        self.memory_bytes = checked_count(memory_bytes, name="memory_bytes", most=MEMORY_BYTES_MAX)
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
        memory = Memory(store, cast("wasmtime.Memory", exports["memory"]))
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


def _read(path_or_bytes: str | PathLike[str] | bytes | bytearray) -> tuple[bytes, str]:
    if isinstance(path_or_bytes, bytes | bytearray):
        code, name = bytes(path_or_bytes), "the module"
    else:
        try:
            path = Path(path_or_bytes)
            with path.open("rb") as file:
                code, name = file.read(MODULE_BYTES_MAX + 1), path.name
        except TypeError:
            raise OptionError(f"path_or_bytes is {path_or_bytes!r}: give a path or bytes") from None
        except (OSError, ValueError) as error:  # a ValueError is a path with a zero byte
            reason = getattr(error, "strerror", None) or error
            raise ModuleLoadError(f"{path_or_bytes!r} cannot be read: {reason}") from error
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
