"""The instruction set for which code is emitted depends on the processor's features."""

import itertools

import pytest

from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64
from midstreamer_kernels.native import simd_registers
from midstreamer_kernels.native.simd_registers import AVX2, AVX512, GENERIC, NEON, SSE2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("x86-64", SSE2),
        ("x86-64-v2", SSE2),
        ("x86-64-v3", AVX2),
        ("x86-64-v4", AVX512),
        ("riscv", GENERIC),
    ],
)
def test_a_model_named_to_numba_decides(
    model: str, expected: simd_registers.InstructionSet
) -> None:
    assert simd_registers.instruction_set_of(model, {"avx512f": True}) is expected


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f": True, "avx2": True, "sse2": True}, AVX512),
        ({"avx512f": False, "avx2": True, "sse2": True}, AVX2),
        ({"neon": True}, NEON),
        ({}, GENERIC),
    ],
)
def test_otherwise_the_widest_instructions_of_the_processor_do(
    features: dict[str, bool], expected: simd_registers.InstructionSet
) -> None:
    assert simd_registers.instruction_set_of("", features) is expected
    assert simd_registers.instruction_set_of("host", features) is expected


@pytest.mark.parametrize("found", [AVX512, AVX2, SSE2, NEON, GENERIC])
def test_the_cells_of_a_strip_fit_the_registers(
    found: simd_registers.InstructionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simd_registers, "instruction_set", lambda: found)

    for number, banded in itertools.product((FLOAT32, FLOAT64), (False, True)):
        shape = simd_registers.striped(number, banded=banded)
        assert shape.lanes * number.bytes == found.vector_bytes
        assert 2 * shape.rows + 1 + 3 <= found.registers
        assert shape.rows * shape.lanes <= simd_registers.BANDED_ROWS_MAX or not banded
        assert shape.integers == (number is FLOAT32 or found is AVX512)
