"""The numba engine: functions that are compiled, release the GIL and are cached on disk.

`jit_decorators` has the decorators that compile a function, `dtw_of_pair` compares two series, and
`history_scan` searches many windows. Functions here check nothing: callers have already checked
shapes, types, bands and finiteness.
"""
