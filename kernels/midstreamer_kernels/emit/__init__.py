"""Generators of LLVM IR for the inner loops of both engines.

Each loop is written once. numba compiles the LLVM IR for the processor it runs on; the WebAssembly
build compiles it for wasm32 with SIMD128.

An emitter has the form ``def emit_x(module, shape, index) -> ir.Function``. It adds one internal
function to `module`, whose arguments are plain numbers and pointers to elements. `shape` gives the
number type and the lanes of a SIMD vector, `index` the integer type of indices. The operations that
emitters use are in `vector_operations`.
"""
