"""The WebAssembly engine: `build` makes ``dtw.wasm`` from the C sources, `host` runs modules, and
`engine` offers the functions of `native` on it.
"""
