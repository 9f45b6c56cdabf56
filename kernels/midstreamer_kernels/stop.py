"""A flag that ends searches which are under way in other threads.

Both engines read it between rows of the matrix and between windows. The numba engine reads the
flag itself; a WebAssembly instance reads a cell of its own memory, to which the flag is copied
while a search runs there. A flag that was set stays set.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from midstreamer_kernels.errors import StoppedError


class Stop:
    """Ends the searches that were given it, from any thread.

    One flag may be given to any number of searches, one after another and side by side. A search
    that finds it set raises `StoppedError`, within some milliseconds; nothing of it is returned.

    Picking candidates in the WebAssembly engine, some 10 ms for a million windows, and sorting
    matches, 100 ms for a million of them, are not interrupted: where that is too long, search fewer
    windows at a time.
    """

    __slots__ = ("_copies", "_flag", "_lock", "address")

    def __init__(self) -> None:
        self._flag = np.zeros(1, np.uint8)
        self.address: int = self._flag.ctypes.data
        """Of the byte that compiled code reads; valid as long as this object."""
        self._copies: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def set(self) -> None:
        """End the searches under way, and those that begin later."""
        with self._lock:
            self._flag[0] = 1
            for copy in self._copies:
                copy[0] = 1

    def is_set(self) -> bool:
        """Return whether `set` was called."""
        return bool(self._flag[0])

    def check(self) -> None:
        """Raise `StoppedError` when `set` was called."""
        if self._flag[0]:
            raise StoppedError("the search was stopped by its flag: it has no result")

    @contextmanager
    def copied(self, cell: NDArray[np.uint8]) -> Iterator[None]:
        """Copy the flag to `cell`, of one byte, meanwhile; then leave 0 there."""
        with self._lock:
            cell[0] = self._flag[0]
            self._copies.append(cell)
        try:
            yield
        finally:
            # Under the lock: `set` in another thread must not write to it any more.
            with self._lock:
                self._copies = [copy for copy in self._copies if copy is not cell]
                cell[0] = 0


NEVER = Stop()
"""For searches without a flag; nobody sets it."""
