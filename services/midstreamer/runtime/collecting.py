"""Run a full garbage collection only when it is worth its pause.

A full collection visits every container object of the process, and no request is answered
meanwhile.  300 open links are some 145,000 objects: 75 ms (measured, 2 cores, CPython 3.11).
CPython starts a full collection when the objects that survived younger collections exceed a quarter
of all.  Objects that live as long as a request survive too, so under load this happens about once
a minute, although next to nothing is found.

`sparing` replaces that rule for the old generation: collect when the memory blocks in use have
grown by half since the last full collection, and after `LONGEST_S` in any case, because a few
objects in a cycle may hold large arrays.  Garbage is therefore bounded as before.  Young
generations are collected as always.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Iterator

from midstreamer.telemetry import logs

GROWTH = 1.5
LONGEST_S = 600.0
LOOK_S = 5.0
"""Between two looks at the memory; one takes some ten microseconds."""
NEVER = 2**31 - 1
"""A threshold for the old generation that is not reached."""

log = logs.get(__name__)


class Collections:
    """When the next full collection is due."""

    def __init__(self, blocks: int, now_s: float) -> None:
        self.collected(blocks, now_s)

    def due(self, blocks: int, now_s: float) -> bool:
        """Whether to collect, with so many memory blocks in use now."""
        return blocks > GROWTH * self._blocks or now_s - self._at_s >= LONGEST_S

    def collected(self, blocks: int, now_s: float) -> None:
        """Record a full collection, after which so many blocks are in use."""
        self._blocks, self._at_s = blocks, now_s


@contextlib.contextmanager
def sparing(*, look_s: float = LOOK_S) -> Iterator[None]:
    """Decide about full collections of this process while inside.

    What is loaded by now lives as long as the process.  It is taken out of all later collections
    (``gc.freeze``), also of that at the end of the process; they would visit some 125,000 objects
    of imported code.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds[:2], NEVER)
    watch = _Watch(look_s)
    try:
        yield
    finally:
        watch.stop()
        gc.set_threshold(*thresholds)


class _Watch:
    """A timer that looks at the memory in use, and collects when it is time."""

    def __init__(self, look_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._look_s = look_s
        self._collections = Collections(sys.getallocatedblocks(), self._loop.time())
        self._handle = self._loop.call_later(look_s, self._look)

    def stop(self) -> None:
        self._handle.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        if self._collections.due(sys.getallocatedblocks(), now_s):
            began_s = time.perf_counter()
            found = gc.collect()
            took_s = time.perf_counter() - began_s
            log.debug("process.collected", objects=found, duration_ms=1e3 * took_s)
            self._collections.collected(sys.getallocatedblocks(), now_s)
        self._handle = self._loop.call_later(self._look_s, self._look)
