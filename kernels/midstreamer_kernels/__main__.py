"""``python -m midstreamer_kernels warm`` fills the cache of compiled code; ``engines`` lists them.

numba compiles each function at its first call and keeps the result on disk, so that only the very
first process waits. An image of a container is warmed when it is built.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from midstreamer_kernels import History, Run, dtw, engines, lcss, nearest
from midstreamer_kernels.announce import ANNOUNCER


def warm() -> None:
    """Call everything that services call, once for each type of number and each engine."""
    points = np.sin(np.arange(64.0))
    for dtype in ("float32", "float64"):
        typed = points.astype(dtype)
        dtw(typed, typed)
        history = History(typed, dtype=dtype)
        history.search(points[:8], band=2)
        nearest([Run(history)], points[:8], 1, measure="lcss", epsilon=0.5)
    lcss(points, points, epsilon=0.5)


def main(arguments: list[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m midstreamer_kernels", description=__doc__)
    parser.add_argument("command", choices=("warm", "engines"))
    if parser.parse_args(arguments).command == "engines":
        for engine in engines():
            sys.stdout.write(
                f"{engine.name}: {engine.instruction_set}, {engine.lanes} lanes of float32\n"
            )
        return
    if sys.stderr.isatty():
        sys.stderr.write("compiling the kernels, up to a minute the first time ...\n")
    ANNOUNCER.said = True  # the line above says it
    begin = time.perf_counter()
    warm()
    seconds = time.perf_counter() - begin
    sys.stdout.write(f"kernels are compiled and cached ({seconds:.1f} s)\n")


if __name__ == "__main__":
    main()
