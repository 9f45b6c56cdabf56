"""Ends what an earlier server of a data directory left behind, found by where it works.

Every process of a PostgreSQL server has the data directory as its working directory, so they are
found exactly, and nothing that only bears the same name is touched.  Backends whose postmaster
was killed notice that by themselves, mostly at once; one that is busy in a long statement does
not.  A postmaster whose launcher was killed is shutting down; it gets time for that first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from midstreamer.domain.errors import StoreError

PATIENCE_S = 10.0
_POLL_S = 0.02

# (share of the patience after which, signal): SIGQUIT ends a backend without a checkpoint.
_ORPHANS = ((0.0, signal.SIGQUIT), (0.3, signal.SIGKILL))
_SHUTTING_DOWN = ((0.4, signal.SIGQUIT), (0.7, signal.SIGKILL))


def processes_in(folder: Path) -> Iterator[int]:
    """Ids of the processes whose working directory is ``folder``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(folder):
                    yield int(entry.name)


async def clear(data: Path, *, patience_s: float = PATIENCE_S) -> None:
    """Return when nobody works in ``data``; the caller's lock says that it is ours to clear."""
    began_s = time.monotonic()
    steps = list(_SHUTTING_DOWN if _postmaster_lives(data) else _ORPHANS)
    while left := list(processes_in(data)):
        waited = (time.monotonic() - began_s) / patience_s
        if waited > 1.0:
            raise StoreError(f"processes {left} of an earlier server still use {data}: end them")
        if steps and waited >= steps[0][0]:
            _signal(left, steps.pop(0)[1])
        await asyncio.sleep(_POLL_S)


def _signal(processes: list[int], how: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, how)


def _postmaster_lives(data: Path) -> bool:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return False
    return pid in set(processes_in(data))
