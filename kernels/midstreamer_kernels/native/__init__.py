"""The numba engine: every function here is compiled, releases the GIL and is cached on disk.

`compiling` holds the one decorator, `pairs` compares two series, `scan` searches many windows.
Inputs are trusted: whoever calls has checked shapes, types, bands and finiteness.
"""
