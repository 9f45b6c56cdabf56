"""The errors that this package raises.

    KernelError
    ├── InputError (a ValueError)   a wrong argument, refused before any computing
    │   ├── NotFiniteError          NaN, infinity, or a number too large to be squared
    │   ├── ShapeError              an empty series, or not one-dimensional
    │   ├── BandError               a band that is negative or narrower than ``|n - m|``
    │   ├── QueryTooLongError       a query longer than the history
    │   └── OptionError             k, step, epsilon, cutoff, measure, engine ... out of range
    ├── StoppedError                a search cancelled by its flag before it had a result
    └── ModuleError                 a faulty WebAssembly module
        ├── ModuleLoadError         not a module, or with imports, or an export missing or mistyped
        ├── OutOfFuelError          the module used up its fuel
        ├── OutOfMemoryError        the module asked for more memory than its limit
        ├── TrapError               the module trapped
        └── ResultError             the module returned something that is not a distance

The attribute `code` of each class is a stable identifier for metrics, logs and wire formats.
"""

from __future__ import annotations

from typing import ClassVar


class KernelError(Exception):
    """Base class of all errors of this package."""

    code: ClassVar[str] = "kernel_error"


class InputError(KernelError, ValueError):
    """An argument is wrong; nothing was computed."""

    code: ClassVar[str] = "bad_input"


class NotFiniteError(InputError):
    """A value is NaN, infinite or too large to be squared."""

    code: ClassVar[str] = "not_finite"


class ShapeError(InputError):
    """A series is empty, has the wrong number of dimensions, or is not made of numbers."""

    code: ClassVar[str] = "bad_shape"


class BandError(InputError):
    """A band is negative, or narrower than the difference of the two lengths."""

    code: ClassVar[str] = "bad_band"


class QueryTooLongError(InputError):
    """A query has more points than the history that is searched."""

    code: ClassVar[str] = "query_too_long"


class OptionError(InputError):
    """An option has a value outside of its range."""

    code: ClassVar[str] = "bad_option"


class StoppedError(KernelError):
    """A search was cancelled by its `Stop` flag before it had a result."""

    code: ClassVar[str] = "stopped"


class ModuleError(KernelError):
    """A WebAssembly module cannot be used, or failed while it ran; this process is not affected."""

    code: ClassVar[str] = "module_error"


class ModuleLoadError(ModuleError):
    """The bytes are not a WebAssembly module, or its imports or exports break the contract."""

    code: ClassVar[str] = "module_load"


class OutOfFuelError(ModuleError):
    """The WebAssembly module used up its fuel, the limit of its instructions."""

    code: ClassVar[str] = "module_out_of_fuel"


class OutOfMemoryError(ModuleError):
    """The WebAssembly module needs more memory than its limit."""

    code: ClassVar[str] = "module_out_of_memory"


class TrapError(ModuleError):
    """The WebAssembly module stopped with a trap."""

    code: ClassVar[str] = "module_trap"


class ResultError(ModuleError):
    """The WebAssembly module returned something that is not a distance."""

    code: ClassVar[str] = "module_result"
