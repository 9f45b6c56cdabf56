"""Ends the processes that an earlier server of a data directory left behind after a crash.

Every process of a PostgreSQL server has the data directory as its working directory.  So the
processes of the server are found exactly, and other processes of the same name are never touched.
Most backends end by themselves when their postmaster was killed; a backend in a long statement does
not.  If the postmaster still lives, it is shutting down already: when the postmaster's parent
process ended, the kernel sent SIGINT to the postmaster.  So the postmaster gets time to finish
before this module sends a signal.
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
"""Maximum seconds to wait for the end of leftover processes."""
_POLL_S = 0.02

# Pairs (when to send a signal, the signal).  The time is a share of ``patience_s``: 0.3 means after
# 30 % of it.  SIGQUIT ends a backend without a checkpoint.
_ORPHANS = ((0.0, signal.SIGQUIT), (0.3, signal.SIGKILL))
_SHUTTING_DOWN = ((0.4, signal.SIGQUIT), (0.7, signal.SIGKILL))


def processes_in(folder: Path) -> Iterator[int]:
    """Yield the ids of the processes whose working directory is ``folder``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(folder):
                    yield int(entry.name)


async def clear(data: Path, *, patience_s: float = PATIENCE_S) -> None:
    """End all processes that use the data directory; return when there are none.

    The caller must hold the launcher's lock on the directory.  Raise StoreError if processes are
    left after ``patience_s`` seconds.
    """
    began_s = time.monotonic()
    steps = list(_SHUTTING_DOWN if _postmaster_lives(data) else _ORPHANS)
    while left := list(processes_in(data)):
        waited = (time.monotonic() - began_s) / patience_s
        if waited > 1.0:
            raise StoreError(
                f"processes {left} of an earlier PostgreSQL server still use {data}: end them"
            )
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
