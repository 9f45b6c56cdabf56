"""The WebAssembly engine: `build` makes ``dtw.wasm`` from the C source beside it and from emitted
loops (`strips`), `host` runs modules; `pairs` and `engine` offer the functions of `native` on it.
"""
