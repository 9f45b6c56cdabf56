"""Log one warning per process when compiling makes the first calls slow.

Without the warning a user cannot know why the first call takes long. It goes to the logger
``midstreamer_kernels``, which Python shows on standard error unless the program configures logging.
Only functions of this package are timed. Functions read from numba's cache are not compiled, so
they cause no warning.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from numba.core import event

PATIENCE_S = 1.0
"""Total compile time in seconds from which the warning is logged; shorter waits need none."""

log = logging.getLogger("midstreamer_kernels")


class Announcer(event.Listener):
    """Listener for numba's compile events: adds up the compile time and logs one warning.

    While numba compiles a function, it also compiles the functions that this one calls. Then only
    the time of the outermost compile is added, because it includes the others.
    """

    def __init__(self) -> None:
        self.said = False
        """If True, `on_end` logs no warning.

        It is True after a warning was logged, or when the user asked for compiling.
        """
        self._told = False
        self._thread = threading.local()
        self._seconds = 0.0

    def tell(self, message: str) -> None:
        """Log `message`, which says why compiled code is not cached.

        Only the first call logs its message.
        """
        if not self._told:
            self._told = self.said = True
            log.warning("midstreamer_kernels: %s", message)

    def on_start(self, event: Any) -> None:
        """Start the clock when numba begins to compile a function of this package."""
        if _ours(event):
            depth = getattr(self._thread, "depth", 0)
            if not depth:
                self._thread.begin_s = time.perf_counter()
            self._thread.depth = depth + 1

    def on_end(self, event: Any) -> None:
        """Stop the clock when the outermost compile ends or fails.

        If all compiles took more than `PATIENCE_S` in total, log the warning once.
        """
        if not _ours(event) or not getattr(self._thread, "depth", 0):
            return
        self._thread.depth -= 1
        if self._thread.depth:
            return
        self._seconds += time.perf_counter() - self._thread.begin_s
        if self._seconds > PATIENCE_S and not self.said:
            self.said = True
            log.warning(
                "midstreamer_kernels compiles its functions for this processor once; later "
                "processes read them from the disk. To compile before the first use, run "
                "`python -m midstreamer_kernels warm`."
            )


def _ours(event: Any) -> bool:
    function = event.data["dispatcher"].py_func
    return str(function.__module__).startswith("midstreamer_kernels.")


ANNOUNCER = Announcer()


def listen() -> None:
    """Register `ANNOUNCER` for numba's compile events."""
    event.register("numba:compile", ANNOUNCER)  # type: ignore[no-untyped-call]
