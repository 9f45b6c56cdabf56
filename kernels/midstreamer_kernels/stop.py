"""A flag that cancels searches that are running in other threads.

Both engines read the flag between rows of the cost matrix and between windows. The numba engine
reads the flag's own byte. A WebAssembly instance reads a byte of its own memory, to which the flag
is copied while a search runs there. A flag that has been set stays set.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.errors import StoppedError


class Stop:
    """A flag that any thread can set to cancel the searches that received the flag.

    One flag may be passed to any number of searches, in sequence or concurrently. A search whose
    flag is set raises `StoppedError` within a few milliseconds and returns no partial result.

    Two parts of a search are not interrupted: the choice of candidates in the WebAssembly engine,
    about 10 ms for a million windows, and the sorting of matches, 100 ms for a million matches.
    Where that is too long, search fewer windows at a time.
    """

    __slots__ = ("_copies", "_flag", "_lock", "address")

    def __init__(self) -> None:
        self._flag = np.zeros(1, np.uint8)
        self.address: int = self._flag.ctypes.data
        """Address of the byte that compiled code reads; valid as long as this object lives."""
        self._copies: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def set(self) -> None:
        """Cancel the running searches that have this flag, and all later ones."""
        with self._lock:
            self._flag[0] = 1
            for copy in self._copies:
                copy[0] = 1

    def is_set(self) -> bool:
        """Return whether `set` has been called."""
        return bool(self._flag[0])

    def check(self) -> None:
        """Raise `StoppedError` if `set` has been called."""
        if self._flag[0]:
            raise StoppedError("the search was stopped by its flag: it has no result")

    @contextmanager
    def copied(self, cell: NDArray[np.uint8]) -> Iterator[None]:
        """Keep `cell` equal to the flag during a ``with`` block; clear `cell` at its end.

        `cell` has the shape (1,).
        """
        with self._lock:
            cell[0] = self._flag[0]
            self._copies.append(cell)
        try:
            yield
        finally:
            # Another thread may be inside `set`, which writes 1 to all copies. Without the lock, it
            # might write 1 to `cell` after `cell` was cleared here.
            with self._lock:
                self._copies = [copy for copy in self._copies if copy is not cell]
                cell[0] = 0


NEVER = Stop()
"""The flag of searches for which the caller gave no flag. Nothing ever sets it."""
