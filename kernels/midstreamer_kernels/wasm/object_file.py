"""Compile the loops that compare one pair of series to an object file for wasm32.

The object file is linked into ``dtw.wasm``. `emit.dtw_of_pair` emits the loops as LLVM IR, for
vectors of a given shape. This module gives it the shapes of SIMD128 vectors; the numba engine gives
it the shapes of the processor's vectors. llvmlite, a dependency of numba, compiles the LLVM IR for
WebAssembly.
"""

from __future__ import annotations

from llvmlite import binding, ir

from midstreamer_kernels.emit.dtw_of_pair import emit_banded_pair, emit_pair, emit_room
from midstreamer_kernels.emit.vector_operations import FLOAT32, FLOAT64, Shape

TRIPLE = "wasm32-unknown-unknown"
FEATURES = "+simd128,+bulk-memory"  # no relaxed SIMD, because its results depend on the host

# `integers=False`: WebAssembly has no i64x2.min, so float64 costs are compared as floats.
# `stores_last=True`: each iteration of a loop does its loads first and its stores last. WebAssembly
# runtimes rarely move a load across a store, so any other order needs more registers.
# 4 rows: loops that keep 4 vectors in registers were faster than loops with 3, 5, 6 or 7.
SHAPES = {
    "f32": Shape(FLOAT32, 4, 4, stores_last=True),
    "f64": Shape(FLOAT64, 2, 4, integers=False, stores_last=True),
}

_INDEX, _WIDE_INDEX = ir.IntType(32), ir.IntType(64)


def _written() -> ir.Module:
    module = ir.Module()
    module.triple = TRIPLE
    for suffix, shape in SHAPES.items():
        for name, emit, index in (
            # `room` returns a size, in 64 bits because the size may exceed 4 GiB.
            ("room", emit_room, _WIDE_INDEX),
            ("pair", emit_pair, _INDEX),
            ("banded_pair", emit_banded_pair, _INDEX),
        ):
            function = emit(module, shape, index)
            function.linkage = "external"
            function.name = f"{name}_{suffix}"
    return module


def compiled() -> tuple[binding.ModuleRef, binding.TargetMachine]:
    """Return the optimised LLVM module with the loops, and LLVM's compiler for wasm32."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(TRIPLE)
    machine = target.create_target_machine(opt=3, features=FEATURES)
    written = _written()
    written.data_layout = str(machine.target_data)
    module = binding.parse_assembly(str(written))
    module.verify()
    # Switch off vectorising and unrolling: the loops are vectorised already, and unrolled loops
    # would need more registers than there are.
    tuning = binding.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
    passes = binding.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    return module, machine


def object_file() -> bytes:
    """Return the compiled loops as a wasm32 object file."""
    module, machine = compiled()
    return bytes(machine.emit_object(module))


def assembly() -> str:
    """Return the compiled loops as assembly text."""
    module, machine = compiled()
    return str(machine.emit_assembly(module))
