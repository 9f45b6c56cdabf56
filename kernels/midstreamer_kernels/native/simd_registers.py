"""The SIMD registers of the processor, which determine the shape of the emitted loops.

The instruction set is that of the processor for which numba compiles (see `cpu_target`). If
``NUMBA_CPU_NAME`` names an x86-64 level (``x86-64-v2``, ``-v3``, ``-v4``), the loops get the shape
for that level. An unknown processor gets vectors of 16 bytes, which every current processor has.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from llvmlite import binding

from midstreamer_kernels.emit.vector_operations import FLOAT32, Number, Shape
from midstreamer_kernels.native.cpu_target import TARGET


@dataclass(frozen=True)
class InstructionSet:
    """The SIMD instructions of a processor."""

    name: str
    vector_bytes: int
    registers: int
    wide_integers: bool
    """Whether there is a SIMD instruction for the minimum of 64-bit integers."""

    def lanes(self, number: Number) -> int:
        """Return how many numbers of the type `number` one register holds."""
        return self.vector_bytes // number.bytes

    def integers(self, number: Number) -> bool:
        """Return whether costs should be compared as integers (see `emit.vector_operations`)."""
        return number is FLOAT32 or self.wide_integers


AVX512 = InstructionSet("avx512", 64, 32, wide_integers=True)
AVX2 = InstructionSet("avx2", 32, 16, wide_integers=False)
SSE2 = InstructionSet("sse2", 16, 16, wide_integers=False)
NEON = InstructionSet("neon", 16, 32, wide_integers=False)
GENERIC = InstructionSet("generic", 16, 16, wide_integers=False)

BANDED_ROWS_MAX = 80  # greatest number of rows of a strip if the matrix has a band: see `striped`

_MODELS = {"x86-64": SSE2, "x86-64-v2": SSE2, "x86-64-v3": AVX2, "x86-64-v4": AVX512}
_FLAGS = {"avx512f": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}  # widest registers first


def instruction_set_of(model: str, features: dict[str, bool]) -> InstructionSet:
    """Return the instruction set of the processor with the name `model`.

    The name is one that numba and LLVM know, for example "x86-64-v3". If `model` is empty or
    "host", the instruction set follows from `features`.
    """
    if model and model != "host":
        return _MODELS.get(model, GENERIC)
    return next((found for flag, found in _FLAGS.items() if features.get(flag)), GENERIC)


@functools.cache
def instruction_set() -> InstructionSet:
    """Return the instruction set that numba compiles for in this process."""
    return instruction_set_of(TARGET.model, dict(binding.get_host_cpu_features()))


def striped(number: Number, *, banded: bool = False) -> Shape:
    """Return the shape of the strips for one pair (see `emit.matrix_strip`) on this processor.

    A strip of K vectors keeps 2 K + 1 vectors in registers, and its arithmetic uses three more
    registers. The points of the rows are not kept in registers: instructions read them from memory.

    With more vectors a strip hides more latency. But it then has more rows, and each of its two
    slanted ends is as many columns wide as the strip has rows. In a narrow band these ends would be
    most of the strip. So if the matrix has a band, a strip has at most `BANDED_ROWS_MAX` rows. For
    1,000 points with AVX2, K = 6 was the fastest of 4 to 8.
    """
    machine = instruction_set()
    rows = 6 if machine.registers == 16 else 8
    if banded:
        rows = min(rows, BANDED_ROWS_MAX // machine.lanes(number))
    return Shape(number, machine.lanes(number), rows, integers=machine.integers(number))
