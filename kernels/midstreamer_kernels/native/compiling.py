"""The one way to compile a function: no GIL, IEEE arithmetic in the written order, cached on disk.

A compiler that may reorder a sum gives other bits on another machine, and answers must not depend
on where they were computed. Only what never reaches an answer may be reordered: bounds, whose users
leave room for rounding.

numba writes its cache beside the sources; where that folder cannot be written it takes the user's
cache folder, and always ``NUMBA_CACHE_DIR`` when set. With none of them writable the functions
still work, compiled anew by each process. With code compiled ahead (see `target`) there is that
folder and no other place: it is only read, and what it lacks is compiled in memory. Whatever is
wrong with a cache is said once and costs time, no more.

numba notices a change of the file in which a function
is defined, but not of what that function calls, nor how wide the vectors are that we emit; so the
names of our cache files carry a digest of all sources that are compiled and the instruction set.
Code of an older version or of another shape is never found.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from midstreamer_kernels import announce
from midstreamer_kernels.announce import ANNOUNCER
from midstreamer_kernels.native.machine import instruction_set
from midstreamer_kernels.native.target import TARGET, VARIABLE

announce.listen()


def _sources_digest() -> str:
    package = Path(__file__).parent.parent
    folders = package / "native", package / "emit"
    digest = hashlib.sha256()
    for source in [
        *(path for folder in folders for path in sorted(folder.glob("*.py"))),
        package / "plan.py",
    ]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


SOURCES_DIGEST = _sources_digest()


class _AheadLocator(caching._CacheLocator):  # noqa: SLF001 - where numba has it
    """Finds code compiled ahead: all in one folder, which need not be writable."""

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
        """Return code from the disk, or None when it has none that is of use."""
        trouble = ""
        try:
            found = super().load_overload(signature, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # a damaged pickle raises anything
            found, trouble = None, f": {type(error).__name__}: {error}"
        if TARGET.trouble:
            ANNOUNCER.tell(TARGET.trouble)
        if found is None and TARGET.folder:
            ANNOUNCER.tell(
                f"{self._py_func.__module__}.{self._py_func.__name__} is not in {VARIABLE}="
                f"{TARGET.folder} for {TARGET.model}{trouble}: what is missing is compiled in "
                "memory, by each process anew. Make the folder with these very versions of Python, "
                "numba and the kernels: `python -m midstreamer_kernels ahead FOLDER`"
            )
        elif trouble:
            ANNOUNCER.tell(f"cannot read compiled code in {self.cache_path}{trouble}")
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        """Write code to the disk, where it can be written."""
        if TARGET.folder:
            return
        try:
            super().save_overload(signature, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            ANNOUNCER.tell(
                f"cannot keep compiled code, it is compiled by each process anew: {error}. "
                "NUMBA_CACHE_DIR names another folder"
            )

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        # numba's own key follows its configuration, which may have changed since.
        _, _, code = super()._index_key(signature, codegen)  # type: ignore[no-untyped-call]
        return signature, TARGET.key, code


def jit(function: Callable[..., Any] | None = None, *, reorder_sums: bool = False) -> Any:
    """Compile `function` on first use; division by zero follows IEEE instead of raising.

    With `reorder_sums` the compiler may add in another order, for speed: the last bits may differ.
    """
    if function is None:
        return functools.partial(jit, reorder_sums=reorder_sums)
    fastmath = {"reassoc", "nnan", "nsz"} if reorder_sums else False
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    if TARGET.certain:  # else what is cached would perhaps bear the name of another processor
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
    """Make `function` a part of each that calls it, instead of one compiled by itself.

    For helpers with one or two callers: every function that numba compiles costs a third of a
    second, and once more in whatever calls it. Sums of these are never reordered.
    """
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)
