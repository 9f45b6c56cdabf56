"""Says, once in a process, why the first calls are slow: a silent wait is a puzzle.

It goes to the logger ``midstreamer_kernels`` as a warning, which Python shows on standard error
unless the program configured otherwise. Only what this package compiles counts; what is read from
the cache takes no time and says nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from numba.core import event

PATIENCE_S = 1.0
"""Compiling that took less in all is not worth a word."""

log = logging.getLogger("midstreamer_kernels")


class Announcer(event.Listener):
    """Adds up the time that compiling takes; functions compiled on the way to one count once."""

    def __init__(self) -> None:
        self.said = False
        """Whether it was said, or whoever compiles on purpose has no need to hear it."""
        self._told = False
        self._thread = threading.local()
        self._seconds = 0.0

    def tell(self, message: str) -> None:
        """Say why code cannot be read from the disk, or be kept there; only the first is said."""
        if not self._told:
            self._told = self.said = True
            log.warning("midstreamer_kernels: %s", message)

    def on_start(self, event: Any) -> None:
        """Numba begins to compile a function."""
        if _ours(event):
            depth = getattr(self._thread, "depth", 0)
            if not depth:
                self._thread.begin_s = time.perf_counter()
            self._thread.depth = depth + 1

    def on_end(self, event: Any) -> None:
        """It is done, or failed."""
        if not _ours(event) or not getattr(self._thread, "depth", 0):
            return
        self._thread.depth -= 1
        if self._thread.depth:
            return
        self._seconds += time.perf_counter() - self._thread.begin_s
        if self._seconds > PATIENCE_S and not self.said:
            self.said = True
            log.warning(
                "midstreamer_kernels compiles for this processor, once; later processes read the "
                "result from the disk. `python -m midstreamer_kernels warm` does it ahead."
            )


def _ours(event: Any) -> bool:
    function = event.data["dispatcher"].py_func
    return str(function.__module__).startswith("midstreamer_kernels.")


ANNOUNCER = Announcer()


def listen() -> None:
    """Begin to listen to numba; called where functions are compiled."""
    event.register("numba:compile", ANNOUNCER)  # type: ignore[no-untyped-call]
