"""Inner loops written as LLVM IR, once for every machine: numba compiles them for the processor it
runs on, the WebAssembly build for wasm32 with SIMD128.

An emitter is ``def emit_x(module, shape, index) -> ir.Function``: it adds one internal function to
the module, whose arguments are plain numbers and pointers to elements. `values` has the few
instructions that emitters need.
"""
