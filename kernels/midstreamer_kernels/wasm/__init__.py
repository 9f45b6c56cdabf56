"""The WebAssembly engine: `build` makes ``dtw.wasm`` from the C sources, `host` runs modules."""
