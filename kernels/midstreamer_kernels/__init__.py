"""Exact comparison and search of time series by DTW and LCSS.

DTW is dynamic time warping, LCSS the longest common subsequence. `dtw`, `dtw_path`, `lcss` and
`similarity` compare two series. `pairwise` compares many series with each other, and `barycenter`
averages them. `Collection` finds the series nearest to a query. `History` is a growing series that
is searched for its nearest windows; `nearest` searches many histories at once; `Stop` cancels a
search that is running. `Monitor` finds patterns in a stream. Two engines, numba and WebAssembly
SIMD, return the same bits. `KernelModule` runs a user's own measure as sandboxed WebAssembly.

Conventions of the whole package: a DTW distance is the square root of summed squared differences. A
band means ``|i - j| <= band``. NaN and infinity raise an error that names their position. The
package prints and logs nothing, except one warning when compiling makes the first calls slow.
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
