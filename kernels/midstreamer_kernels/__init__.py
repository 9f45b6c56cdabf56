"""Exact comparison and search of time series: dynamic time warping and common subsequences.

`dtw`, `dtw_path`, `lcss` and `similarity` compare two series, `pairwise` and `barycenter` many with
each other; a `Collection` is asked for those nearest to a query. A `History` grows and is searched
for its nearest windows; `nearest` searches many at once; a `Stop` ends a search under way. A
`Monitor` finds patterns in a stream. Two engines, numba and WebAssembly SIMD, give the same bits; a
`KernelModule` runs a measure of your own as sandboxed WebAssembly.

What holds throughout: distances are square roots of summed squared differences; a band means
``|i - j| <= band``; NaN and infinity are refused with their position; nothing prints or logs, but
for a line when compiling makes the first calls slow.
"""

from midstreamer_kernels.barycenter import barycenter
from midstreamer_kernels.collection import Collection
from midstreamer_kernels.compare import dtw, dtw_path, lcss, similarity
from midstreamer_kernels.engines import Engine, engines
from midstreamer_kernels.errors import (
    BandError,
    InputError,
    KernelError,
    ModuleError,
    ModuleLoadError,
    NotFiniteError,
    OptionError,
    OutOfFuelError,
    OutOfMemoryError,
    QueryTooLongError,
    ResultError,
    ShapeError,
    StoppedError,
    TrapError,
)
from midstreamer_kernels.monitor import Detection, Monitor
from midstreamer_kernels.pairwise import pairwise
from midstreamer_kernels.search import History, Matches, Run, nearest
from midstreamer_kernels.stop import Stop
from midstreamer_kernels.wasm.host import KernelModule

__version__ = "0.1.0"

__all__ = [
    "BandError",
    "Collection",
    "Detection",
    "Engine",
    "History",
    "InputError",
    "KernelError",
    "KernelModule",
    "Matches",
    "ModuleError",
    "ModuleLoadError",
    "Monitor",
    "NotFiniteError",
    "OptionError",
    "OutOfFuelError",
    "OutOfMemoryError",
    "QueryTooLongError",
    "ResultError",
    "Run",
    "ShapeError",
    "Stop",
    "StoppedError",
    "TrapError",
    "__version__",
    "barycenter",
    "dtw",
    "dtw_path",
    "engines",
    "lcss",
    "nearest",
    "pairwise",
    "similarity",
]
