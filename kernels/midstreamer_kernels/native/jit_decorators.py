"""The decorators `jit` and `inlined`, with which all functions of the numba engine are compiled.

Compiled functions release the GIL, compute IEEE arithmetic in the written order, and are cached on
disk. The order matters because a compiler that reorders a sum returns other bits on another
machine, and results must not depend on the machine. Only sums that never appear in a result may be
reordered: lower bounds, which are compared with a tolerance for rounding.

numba writes its cache to ``NUMBA_CACHE_DIR`` if that is set, otherwise beside the sources, or to
the user's cache folder if the sources' folder is not writable. If none of them is writable, the
functions still work, but every process compiles them again. If a folder of code compiled ahead of
time is in use (see `cpu_target`), it takes the place of numba's cache. That folder is only read,
and missing code is compiled in memory. A faulty cache costs only time, and one warning is logged.

numba recompiles a function when its source file changes, but not when functions it calls change, or
when the width of the emitted vectors changes. Therefore the names of our cache files contain a
digest of all compiled sources and the name of the instruction set, so code of an older version or
of another vector width is never loaded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from midstreamer_kernels import compile_notice
from midstreamer_kernels.compile_notice import ANNOUNCER
from midstreamer_kernels.native.cpu_target import TARGET, VARIABLE
from midstreamer_kernels.native.simd_registers import instruction_set

compile_notice.listen()


def _sources_digest() -> str:
    package = Path(__file__).parent.parent
    folders = package / "native", package / "emit"
    digest = hashlib.sha256()
    for source in [
        *(path for folder in folders for path in sorted(folder.glob("*.py"))),
        package / "search_inputs.py",
    ]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


SOURCES_DIGEST = _sources_digest()


class _AheadLocator(caching._CacheLocator):  # noqa: SLF001 - where numba has it
    """Locates code compiled ahead of time: one folder for all functions, which is only read."""

    def __init__(self, line: int) -> None:
        self._line = line

    def get_cache_path(self) -> str:
        return str(TARGET.folder)

    def ensure_cache_path(self) -> None:
        pass

    def get_source_stamp(self) -> str:
        return SOURCES_DIGEST

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Any, file: str) -> _AheadLocator:
        return cls(function.__code__.co_firstlineno)


class _CacheFiles(caching.CompileResultCacheImpl):
    if TARGET.folder:
        _locator_classes = [_AheadLocator]  # type: ignore[list-item]

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        base = super().get_filename_base(fullname, abiflags)  # type: ignore[no-untyped-call]
        return f"{base}-{SOURCES_DIGEST}-{instruction_set().name}"


class _Cache(caching.FunctionCache):
    _impl_class = _CacheFiles

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = SOURCES_DIGEST  # noqa: SLF001 - a time of older numbas, which images lose

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return compiled code from the disk, or None if there is no usable code.

        A problem with the cache is logged once.
        """
        trouble = ""
        try:
            found = super().load_overload(signature, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # a damaged pickle may raise any exception
            found, trouble = None, f": {type(error).__name__}: {error}"
        if TARGET.trouble:
            ANNOUNCER.tell(TARGET.trouble)
        if found is None and TARGET.folder:
            ANNOUNCER.tell(
                f"{self._py_func.__module__}.{self._py_func.__name__} is not in {VARIABLE}="
                f"{TARGET.folder} for {TARGET.model}{trouble}: each process compiles missing code "
                "in memory again. Make the folder with the same versions of Python, numba and the "
                "kernels: `python -m midstreamer_kernels ahead FOLDER`"
            )
        elif trouble:
            ANNOUNCER.tell(f"cannot read compiled code in {self.cache_path}{trouble}")
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        """Write compiled code to the disk; log one warning if that fails.

        Nothing is written if a folder of code compiled ahead of time is in use.
        """
        if TARGET.folder:
            return
        try:
            super().save_overload(signature, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            ANNOUNCER.tell(
                f"cannot keep compiled code, so each process compiles it again: {error}. "
                "Set NUMBA_CACHE_DIR to a folder that can be written"
            )

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        # Use `TARGET.key`: numba's own key depends on its configuration, which may have changed
        # since the import.
        _, _, code = super()._index_key(signature, codegen)  # type: ignore[no-untyped-call]
        return signature, TARGET.key, code


def jit(function: Callable[..., Any] | None = None, *, reorder_sums: bool = False) -> Any:
    """Compile `function` at its first call; division by zero follows IEEE instead of raising.

    With `reorder_sums` the compiler may change the order of additions for speed, so the last bits
    of a sum may differ between machines.
    """
    if function is None:
        return functools.partial(jit, reorder_sums=reorder_sums)
    fastmath = {"reassoc", "nnan", "nsz"} if reorder_sums else False
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    # If it is not certain for which processor numba compiles, nothing is cached: the cache could
    # store code for one processor under the name of another.
    if TARGET.certain:
        try:
            dispatcher._cache = _Cache(function)  # noqa: SLF001 - what cache=True does, under our names
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        else:
            return dispatcher
    if TARGET.trouble:
        ANNOUNCER.tell(TARGET.trouble)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """Inline `function` into every function that calls it, instead of compiling it by itself.

    Numba takes a third of a second to compile a function by itself, and as long again in each
    function that calls it. Inlining saves the separate compilation. But the inlined body is
    compiled in every caller, so use this decorator only for helpers with one or two callers. Unlike
    `jit`, it has no option that lets the compiler change the order of additions.
    """
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)
