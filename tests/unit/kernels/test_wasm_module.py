"""WebAssembly: the shipped module can be rebuilt from the sources, and modules are sandboxed."""

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import wasmtime

from midstreamer_kernels import (
    KernelModule,
    ModuleLoadError,
    OptionError,
    OutOfFuelError,
    OutOfMemoryError,
    ResultError,
    TrapError,
    dtw,
)
from midstreamer_kernels.wasm import build, host, pairs

MIB = 1024 * 1024


def a_module(
    body: str = "f32.const 1", *, alloc: str = "i32.const 8", pages: int = 1, extra: str = ""
) -> bytes:
    """Build a WebAssembly module with the required exports and these function bodies."""
    return bytes(
        wasmtime.wat2wasm(f"""(module {extra} (memory (export "memory") {pages})
            (func (export "alloc") (param i32) (result i32) {alloc})
            (func (export "dtw_compare") (param i32 i32 i32 i32) (result f32) {body}))""")
    )


def loaded(
    code: bytes | bytearray | Path, fuel: int = 100_000, memory_bytes: int = MIB
) -> KernelModule:
    return KernelModule(code, fuel=fuel, memory_bytes=memory_bytes)


def are_pinned(*packages: str) -> bool:
    """Return whether the installed versions of the packages are those pinned in `requirements`."""
    folder = Path(__file__).parents[3] / "requirements"
    pins = (folder / "run.txt").read_text() + (folder / "dev.txt").read_text()
    return all(f"{name}=={metadata.version(name)} " in pins for name in packages)


@pytest.mark.skipif(
    not are_pinned("llvmlite", "ziglang"), reason="the installed compilers are not the pinned ones"
)
def test_the_shipped_module_is_the_one_built_from_the_sources(tmp_path: Path) -> None:
    build.build(tmp_path / "dtw.wasm")

    assert (tmp_path / "dtw.wasm").read_bytes() == build.MODULE.read_bytes()


def test_a_module_built_by_other_compilers_would_answer_the_same(tmp_path: Path) -> None:
    build.build(tmp_path / "dtw.wasm")
    built, shipped = loaded(tmp_path / "dtw.wasm", 10**8), loaded(build.MODULE, 10**8)
    a, b = np.random.default_rng(3).standard_normal((2, 300)).cumsum(axis=1)

    assert built.distance(a, b) == shipped.distance(a, b) == dtw(a.astype("f4"), b.astype("f4"))


def test_the_shipped_module_keeps_its_own_contract() -> None:
    module = KernelModule(host.MODULE, fuel=10_000_000, memory_bytes=2 * MIB)
    a, b = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)

    assert module.distance(a, b) == dtw(a, b)


def test_a_module_sees_the_arrays_as_float32() -> None:
    first = loaded(
        a_module("(f32.load (local.get 2))", alloc="(i32.mul (local.get 0) (i32.const 2))")
    )

    assert first.distance([1.0, 2.0], [3.5, 4.0, 5.0]) == 3.5


def test_calls_do_not_see_each_other() -> None:
    counter = "(global $calls (mut f32) (f32.const 0))"
    body = "(global.set $calls (f32.add (global.get $calls) (f32.const 1))) (global.get $calls)"
    module = loaded(a_module(body, extra=counter))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: module.distance([1.0], [2.0]), range(20)))

    assert answers == [1.0] * 20


def test_an_endless_loop_runs_out_of_fuel_and_the_next_call_is_fresh() -> None:
    body = """(if (f32.gt (f32.load (local.get 0)) (f32.const 0))
        (then (loop $again (br $again)))) f32.const 2"""
    module = loaded(a_module(body))

    with pytest.raises(OutOfFuelError, match="fuel=100,000"):
        module.distance([1.0], [1.0])
    assert module.distance([-1.0], [-1.0]) == 2.0


def test_a_module_that_never_starts_runs_out_of_fuel() -> None:
    start = "(func $forever (loop $again (br $again))) (start $forever)"

    with pytest.raises(OutOfFuelError):
        loaded(a_module(extra=start)).distance([1.0], [1.0])


def test_a_sandbox_without_limits_is_refused() -> None:
    with pytest.raises(OptionError, match="fuel is 0: give at least 1"):
        loaded(a_module(), fuel=0)
    with pytest.raises(OptionError, match="memory_bytes is -1"):
        loaded(a_module(), memory_bytes=-1)


def test_a_module_that_begins_too_large_is_stopped() -> None:
    with pytest.raises(OutOfMemoryError, match="memory_bytes=1,048,576"):
        loaded(a_module(pages=100)).distance([1.0], [1.0])


def test_a_module_that_cannot_grow_is_stopped() -> None:
    grow = "(drop (memory.grow (i32.const 100))) i32.const 200000"

    with pytest.raises(OutOfMemoryError, match="outside of its memory of 65,536 B"):
        loaded(a_module(alloc=grow)).distance([1.0], [1.0])


def test_our_own_module_under_too_little_memory_is_stopped() -> None:
    module = KernelModule(host.MODULE, fuel=10**9, memory_bytes=4 * 65_536)

    with pytest.raises(OutOfMemoryError, match="returned 0"):
        module.distance(np.zeros(100_000), np.zeros(100_000))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("unreachable", "unreachable"),
        ("(f32.load (i32.const 99999999))", "memory_out_of_bounds"),
        ("(call 1 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", "stack_overflow"),
    ],
)
def test_a_trap_is_named(body: str, reason: str) -> None:
    with pytest.raises(TrapError, match=reason):
        loaded(a_module(body), fuel=10**9).distance([1.0], [1.0])


@pytest.mark.parametrize("body", ["f32.const nan", "f32.const -1"])
def test_what_cannot_be_a_distance_is_refused(body: str) -> None:
    with pytest.raises(ResultError, match="as a distance"):
        loaded(a_module(body)).distance([1.0], [1.0])


def test_a_module_may_import_nothing() -> None:
    with pytest.raises(ModuleLoadError, match=r"imports env\.now"):
        loaded(a_module(extra='(import "env" "now" (func))'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(module)", "no memory named 'memory'"),
        ('(module (memory (export "memory") 1))', "no function named 'alloc'"),
        (
            '(module (memory (export "memory") 1) (func (export "alloc")))',
            r"exports 'alloc' as \[\] -> \[\], not as \['i32'\] -> \['i32'\]",
        ),
    ],
)
def test_a_module_that_breaks_the_contract_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModuleLoadError, match=message):
        loaded(bytes(wasmtime.wat2wasm(text)))


def test_what_is_not_a_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleLoadError, match="not a WebAssembly module"):
        loaded(b"not a module")
    with pytest.raises(ModuleLoadError, match="cannot be read"):
        loaded(tmp_path / "absent.wasm")
    monkeypatch.setattr(host, "MODULE_BYTES_MAX", 10)
    with pytest.raises(ModuleLoadError, match="larger than 10 B"):
        loaded(host.MODULE)


def test_our_engine_says_when_memory_is_short() -> None:
    with host.session() as instance, pytest.raises(OutOfMemoryError, match="4 GiB"):
        instance.room(2**31)
    with pytest.raises(OutOfMemoryError, match="long a pair"):
        pairs._computed(-1)


def test_a_pair_too_long_for_the_module_is_refused_and_the_next_is_not() -> None:
    endless = np.lib.stride_tricks.as_strided(np.ones(1), (2**29,), (0,))

    with pytest.raises(OutOfMemoryError, match="4 GiB"):
        pairs.dtw_squared(endless, np.ones(1), 2**29, np.inf)
    assert pairs.dtw_squared(np.ones(3), np.zeros(3), 2, np.inf) == 3.0


def test_a_module_may_be_given_as_wasmtime_makes_it() -> None:
    assert loaded(bytearray(a_module())).distance([1.0], [2.0]) == 1.0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, OptionError, "path_or_bytes is None: give a path or bytes"),
        ("a\0b", ModuleLoadError, "cannot be read: embedded null byte"),
    ],
)
def test_what_is_neither_a_path_nor_bytes_is_refused(
    given: Path, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        loaded(given)


def test_a_limit_that_would_wrap_around_is_refused() -> None:
    with pytest.raises(OptionError, match="fuel is .*: give at most 9223372036854775807"):
        loaded(a_module(), fuel=2**64)
    with pytest.raises(OptionError, match="memory_bytes is .*: give at most 4294967296"):
        loaded(a_module(), memory_bytes=2**64)
