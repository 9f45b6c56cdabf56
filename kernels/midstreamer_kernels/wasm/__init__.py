"""The WebAssembly engine.

`build` compiles ``dtw.wasm`` from the C sources in this folder and from emitted loops
(`object_file`). `host` runs WebAssembly modules. `pairs` and `engine` offer the same functions as
`native`.
"""
