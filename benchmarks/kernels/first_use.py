"""Measure the first use of the kernels, with an empty and with a full cache of compiled code.

Each start runs in its own process, because its work happens once per process.  The cold start
compiles all kernels that the services need, and stores the machine code in an empty folder.  A warm
start loads the machine code from this folder: it imports the package, creates a history and
searches it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.kernels.children import TOP, environment
from benchmarks.kernels.measure import Row, Spent, quartiles

TASK = "start"
COLD, WARM = "cold: compile what the services need", "warm: import and first search"
AT_MOST_S = {COLD: 10.0, WARM: 1.0}
"""Gates of the starts: the seconds that a cold start and a warm start may take at most."""
WARM_STARTS = 7
SECONDS_MAX = 300

FIRST_SEARCH = """
import sys, time
sys.modules["scipy"] = None
begin = time.perf_counter()
import numpy as np
from midstreamer_kernels import History
points = np.sin(np.arange(1000.0))
History(points).search(points[:64], k=5, band=3)
print(time.perf_counter() - begin)
"""


def measured(*, quick: bool, spent: Spent) -> list[Row]:
    """Return the row of the cold start and the row of the warm starts."""
    with tempfile.TemporaryDirectory(prefix="midstreamer-bench-cache-") as cache:
        begin = time.perf_counter()
        _run(["-m", "midstreamer_kernels", "warm", "--searches"], cache)
        cold = time.perf_counter() - begin
        spent(0.7)
        warm = []
        for number in range(2 if quick else WARM_STARTS):
            warm.append(float(_run(["-c", FIRST_SEARCH], cache)))
            spent(0.7 + 0.3 * (number + 1) / WARM_STARTS)
    return [_row(COLD, [cold]), _row(WARM, warm)]


def _row(name: str, samples: list[float]) -> Row:
    low, median, high = quartiles(samples)
    return Row(TASK, name, "ours", median, low, high, len(samples))


def _run(arguments: Sequence[str], cache: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=TOP, capture_output=True, text=True, check=True,
        timeout=SECONDS_MAX, env=dict(environment()) | {"NUMBA_CACHE_DIR": cache},
    )  # fmt: skip
    return done.stdout
