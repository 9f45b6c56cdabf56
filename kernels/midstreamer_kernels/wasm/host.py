"""Run WebAssembly modules with wasmtime: the package's own module, and users' modules in a sandbox.

This is the only Python module that uses wasmtime. The package's own module is compiled once and
instantiated once per thread, so calls from several threads never share memory. A user's module gets
a new instance for every call, with its own memory limit and fuel. So no state of a user's module
outlives the call, and any number of threads may use the module. Every fault of a user's module
raises a `ModuleError`.
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

from midstreamer_kernels import series_checks
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
# Greatest size of a user's module in bytes. The size is limited because fuel limits only running,
# not compiling.
MODULE_BYTES_MAX = 16 * 1024 * 1024
FUEL_MAX = 2**63 - 1  # greatest fuel of one call
MEMORY_BYTES_MAX = 2**32  # greatest memory limit in bytes: the range of 32-bit addresses


class Memory:
    """The memory of a WebAssembly instance, to and from which arrays are copied."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store, self._memory = store, memory

    def _address(self, pointer: int, size: int) -> int:
        if pointer <= 0 or pointer + size > self._memory.data_len(self._store):
            raise OutOfMemoryError(
                f"the module's alloc({size}) returned {pointer}, outside of its memory of "
                f"{self._memory.data_len(self._store):,} B: give more memory_bytes"
            )
        # The address is computed at each use, because a memory may move when it grows.
        return self.address() + pointer

    def address(self) -> int:
        """Return the address of the memory in this process; valid until the memory grows."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)

    def view(self, pointer: int, size: int) -> NDArray[np.uint8]:
        """Return a view of `size` bytes at `pointer`, for a memory that never moves.

        The view always shows the current contents.
        """
        place = self._address(pointer, size)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(place))

    def write(self, pointer: int, address: int, size: int) -> None:
        """Copy `size` bytes from an address of this process to `pointer` in the memory."""
        ctypes.memmove(self._address(pointer, size), address, size)

    def read(self, pointer: int, count: int, dtype: Any) -> NDArray[Any]:
        """Return a copy of `count` numbers of type `dtype` at `pointer` in the memory."""
        target = np.empty(count, dtype)
        ctypes.memmove(target.ctypes.data, self._address(pointer, target.nbytes), target.nbytes)
        return target


def _unsigned(pointer: int) -> int:
    return pointer & 0xFFFF_FFFF


# This part of the file runs the package's own module, ``dtw.wasm``. The part after `session` runs
# modules of users.


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    configuration = _configuration()
    # The memory must not move, because another thread may write to `Instance.stop` while this
    # thread lets the memory grow.
    configuration.memory_may_move = False
    engine = wasmtime.Engine(configuration)
    return engine, wasmtime.Module(engine, MODULE.read_bytes())


def _configuration() -> wasmtime.Config:
    configuration = wasmtime.Config()
    configuration.wasm_simd = True
    configuration.wasm_relaxed_simd = False  # relaxed SIMD results depend on the host
    configuration.wasm_threads = False
    configuration.wasm_memory64 = False
    return configuration


class Instance:
    """An instance of ``dtw.wasm``, the package's own WebAssembly module, used by one thread."""

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
        """Pointer to the module's ``struct pair``: arguments and result of a comparison."""
        self.stop = self.memory.view(int(self.call("stop_place")), 1)
        """The stop flag of searches in this instance, shape (1,), uint8; see `Stop.copied`."""
        self._kept = 0, 0

    def call(self, name: str, *arguments: float) -> Any:
        """Call an exported function. This takes about 5 microseconds, and 5 more per argument."""
        return self._functions[name](self._store, *arguments)

    def kept(self, size: int) -> int:
        """Return a block of at least `size` bytes, which later calls reuse if it is large enough.

        Do not call this method inside of a `session`: when a session ends, it frees all memory that
        was allocated since it started.
        """
        pointer, kept = self._kept
        if size > kept:
            if kept:
                self.call("release", pointer)
            self._kept = 0, 0
            self._kept = self.room(size), size
        return self._kept[0]

    def room(self, size: int) -> int:
        """Allocate `size` bytes; return the pointer, or raise `OutOfMemoryError`."""
        pointer = _unsigned(self.call("alloc", size)) if size < 2**31 else 0
        if not pointer:
            raise OutOfMemoryError(
                f"no {size:,} B left in a WebAssembly memory of at most 4 GiB: give less data at a "
                "time, or use engine numba"
            )
        return pointer

    def put(self, array: NDArray[Any]) -> int:
        """Allocate memory for `array` and copy it there; return the pointer."""
        pointer = self.room(array.nbytes)
        self.memory.write(pointer, array.ctypes.data, array.nbytes)
        return pointer


_local = threading.local()


def instance_here() -> Instance:
    """Return this thread's instance of the package's own module, created at the first call."""
    instance: Instance | None = getattr(_local, "instance", None)
    if instance is None:
        instance = _local.instance = Instance()
    return instance


@contextmanager
def session() -> Iterator[Instance]:
    """Yield this thread's instance for use in a ``with`` block.

    When the block ends, all memory that it allocated in the instance is freed.
    """
    instance = instance_here()
    mark = instance.room(0)
    try:
        yield instance
    finally:
        instance.call("release", mark)


# Users' modules

_I32, _F32 = "i32", "f32"
_CONTRACT: dict[str, tuple[list[str], list[str]]] = {
    "alloc": ([_I32], [_I32]),
    "dtw_compare": ([_I32] * 4, [_F32]),
}


class KernelModule:
    """A user's own measure as a WebAssembly module that runs in a sandbox.

    The module exports ``memory``, ``alloc(i32) -> i32`` and
    ``dtw_compare(i32 pointer, i32 count, i32 pointer, i32 count) -> f32`` on float32 arrays. The
    module imports nothing, so it can only compute. Every call runs in a new instance.

    Parameters
    ----------
    path_or_bytes : path, bytes or bytearray
        A module in binary form, at most 16 MiB.
    fuel : int
        Approximate number of instructions that one call may execute, including instantiation.
    memory_bytes : int
        Memory limit of an instance in bytes; memory grows in whole pages of 64 KiB.

    Raises
    ------
    OptionError
        `fuel` or `memory_bytes` is below 1, `fuel` is above 2**63 - 1, `memory_bytes` is above
        4 GiB, or `path_or_bytes` is neither a path nor bytes.
    ModuleLoadError
        The bytes are not a module, the module imports something, or an export is missing or has the
        wrong type.
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
        """Return the distance of two series that the module's ``dtw_compare`` computes.

        The series are passed as float32.

        Raises
        ------
        OutOfFuelError, OutOfMemoryError, TrapError
            The module exceeded a limit or trapped; the next call starts with a new instance.
        ResultError
            The module returned NaN or a negative number.
        InputError
            A series is empty, not one-dimensional or not finite.
        """
        left = series_checks.filled(a, name="a", dtype=np.float32)
        right = series_checks.filled(b, name="b", dtype=np.float32)
        with self._translated():
            distance = self._compare(left, right)
        if not distance >= 0.0:
            raise ResultError(
                f"{self.name} returned {distance} as a distance: dtw_compare must return 0 or more"
            )
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
            # Report the cause of the trap, not its message, which includes the module's backtrace.
            if trap.trap_code == wasmtime.TrapCode.OUT_OF_FUEL:
                raise OutOfFuelError(
                    f"{self.name} used up fuel={self.fuel:,}: give more fuel, or shorter series"
                ) from trap
            reason = trap.trap_code.name.lower() if trap.trap_code else str(trap)
            raise TrapError(f"{self.name} trapped: {reason}") from trap
        except wasmtime.WasmtimeError as error:
            if "memory" in str(error):
                raise OutOfMemoryError(
                    f"{self.name} needs more than memory_bytes={self.memory_bytes:,}: {error}"
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
        except (OSError, ValueError) as error:  # ValueError: the path has a zero byte
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
