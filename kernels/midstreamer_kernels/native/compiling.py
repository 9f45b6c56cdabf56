"""The one way to compile a function: no GIL, IEEE arithmetic in the written order, cached on disk.

A compiler that may reorder a sum gives other bits on another machine, and answers must not depend
on where they were computed. Only what never reaches an answer may be reordered: bounds, whose users
leave room for rounding.

numba writes its cache beside the sources; where that folder cannot be written it takes the user's
cache folder, and always ``NUMBA_CACHE_DIR`` when set. With none of them writable the functions
still work, compiled anew by each process. numba notices a change of the file in which a function
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
from midstreamer_kernels.native.machine import instruction_set
from midstreamer_kernels.native.target import TARGET

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


class _CacheFiles(caching.CompileResultCacheImpl):
    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        base = super().get_filename_base(fullname, abiflags)  # type: ignore[no-untyped-call]
        return f"{base}-{SOURCES_DIGEST}-{instruction_set().name}"


class _Cache(caching.FunctionCache):
    _impl_class = _CacheFiles

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
    if not TARGET.certain:
        return dispatcher  # what is cached would perhaps bear the name of another processor
    try:
        dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]  # noqa: SLF001 - what cache=True does, under our names
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """Make `function` a part of each that calls it, instead of one compiled by itself.

    For helpers with one or two callers: every function that numba compiles costs a third of a
    second, and once more in whatever calls it. Sums of these are never reordered.
    """
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)
