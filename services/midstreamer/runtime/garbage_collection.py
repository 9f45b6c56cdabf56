"""Run a full garbage collection only when it is worth its pause.

A full collection visits every container object of the process, and no request is answered
meanwhile.  300 open links are some 145,000 objects: 75 ms (measured, 2 cores, CPython 3.11).
CPython counts the objects that have newly reached the old generation, because they survived the
collections of the younger ones.  It starts a full collection when these are more than a quarter of
the objects that survived the last full collection.  Objects of a request under way are counted
too, so under load this happens about once a minute, although next to nothing is found.

`sparing` replaces that rule for the old generation: run a full collection when the memory blocks in
use have grown by half since the last full collection.  In any case run one after `LONGEST_S`,
because a few objects in a cycle may hold large arrays.  These two rules keep the amount of garbage
bounded.  The younger generations are collected as CPython does by default.
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
"""A full collection is due when the memory blocks in use have grown by this factor."""
LONGEST_S = 600.0
"""Maximum seconds between two full collections."""
LOOK_S = 5.0
"""Seconds between two reads of the memory blocks in use; one read takes about 10 microseconds."""
NEVER = 2**31 - 1
"""Threshold for the old generation in ``gc.set_threshold``. The count that CPython compares with it
never gets so high, so CPython starts no full collection by itself."""

log = logs.get(__name__)


class Collections:
    """Decides when the next full garbage collection is due."""

    def __init__(self, blocks: int, now_s: float) -> None:
        self.collected(blocks, now_s)

    def due(self, blocks: int, now_s: float) -> bool:
        """Return whether a full collection is due; ``blocks`` memory blocks are in use now."""
        return blocks > GROWTH * self._blocks or now_s - self._at_s >= LONGEST_S

    def collected(self, blocks: int, now_s: float) -> None:
        """Record a full collection, after which ``blocks`` memory blocks are in use."""
        self._blocks, self._at_s = blocks, now_s


@contextlib.contextmanager
def sparing(*, look_s: float = LOOK_S) -> Iterator[None]:
    """While the block runs, run full garbage collections when `Collections` says that they are due.

    Objects that exist when the block begins, mostly imported code, live as long as the process.
    They are excluded from all later collections (``gc.freeze``), also from the collection at the
    end of the process; otherwise each collection would visit about 125,000 more objects.
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
    """A repeating timer that reads the memory in use and runs a full collection when it is due."""

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
