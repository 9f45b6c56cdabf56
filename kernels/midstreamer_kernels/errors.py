"""What can go wrong, by name.

    KernelError
    ├── InputError (a ValueError)   what was handed in, refused before any computing
    │   ├── NotFiniteError          NaN, infinity or a magnitude beyond what can be squared
    │   ├── ShapeError              empty, or not one-dimensional
    │   ├── BandError               negative, or narrower than the difference of lengths
    │   ├── QueryTooLongError       longer than the history
    │   └── OptionError             k, step, epsilon, cutoff, measure, engine ... out of range
    ├── StoppedError                ended by its flag before it had a result
    └── ModuleError                 a WebAssembly module, or what it did
        ├── ModuleLoadError         not a module, an import, a missing or mistyped export
        ├── OutOfFuelError          used up the fuel it was given
        ├── OutOfMemoryError        wanted more memory than it was given
        ├── TrapError               stopped by a fault of its own
        └── ResultError             returned what cannot be a distance

`code` is a stable word for each, for metrics, logs and wire formats.
"""

from __future__ import annotations

from typing import ClassVar


class KernelError(Exception):
    """Anything this package refuses or fails to do."""

    code: ClassVar[str] = "kernel_error"


class InputError(KernelError, ValueError):
    """What was handed in cannot be computed with."""

    code: ClassVar[str] = "bad_input"


class NotFiniteError(InputError):
    """A value is NaN, infinite or too large to be squared."""

    code: ClassVar[str] = "not_finite"


class ShapeError(InputError):
    """A series is empty or has more or fewer dimensions than one."""

    code: ClassVar[str] = "bad_shape"


class BandError(InputError):
    """A band is negative or too narrow for the two lengths."""

    code: ClassVar[str] = "bad_band"


class QueryTooLongError(InputError):
    """A query has more points than the history."""

    code: ClassVar[str] = "query_too_long"


class OptionError(InputError):
    """An option has a value outside of its range."""

    code: ClassVar[str] = "bad_option"


class StoppedError(KernelError):
    """A search was ended by its `Stop` before it had a result."""

    code: ClassVar[str] = "stopped"


class ModuleError(KernelError):
    """A WebAssembly module cannot be used, or misbehaved; this process is unharmed."""

    code: ClassVar[str] = "module_error"


class ModuleLoadError(ModuleError):
    """Not a module, or not one that keeps the contract."""

    code: ClassVar[str] = "module_load"


class OutOfFuelError(ModuleError):
    """The module used up its fuel."""

    code: ClassVar[str] = "module_out_of_fuel"


class OutOfMemoryError(ModuleError):
    """The module needs more memory than it may have."""

    code: ClassVar[str] = "module_out_of_memory"


class TrapError(ModuleError):
    """The module stopped with a trap."""

    code: ClassVar[str] = "module_trap"


class ResultError(ModuleError):
    """The module returned something that is not a distance."""

    code: ClassVar[str] = "module_result"
