"""``python -m midstreamer_kernels warm`` fills the cache of compiled code; ``engines`` lists them.

numba compiles each function at its first call and keeps the result on disk, so that only the very
first process waits. An image of a container is warmed when it is built; where histories are all
that is searched, ``--searches`` takes a quarter of the time.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from midstreamer_kernels import (
    Collection,
    History,
    Monitor,
    Run,
    barycenter,
    dtw,
    dtw_path,
    engines,
    lcss,
    nearest,
    pairwise,
)
from midstreamer_kernels.announce import ANNOUNCER

POINTS = np.sin(np.arange(64.0))


def warm_searches() -> None:
    """Search a history by both measures."""
    history = History(POINTS, dtype="float64")
    for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
        nearest([Run(history)], POINTS[:8], 1, measure=measure, epsilon=epsilon, band=2)


def warm() -> None:
    """Call everything once, for each type of number."""
    warm_searches()
    lcss(POINTS, POINTS, epsilon=0.5)
    for dtype in ("float32", "float64"):
        typed = POINTS.astype(dtype)
        rows = typed.reshape(8, 8)
        dtw(typed, typed)
        dtw_path(typed, typed)
        barycenter(rows, iterations=1)
        History(typed, dtype=dtype).search(typed[:8], band=2)
        for measure, epsilon in (("dtw", None), ("lcss", 0.5)):
            pairwise(rows, measure=measure, epsilon=epsilon)
            Collection(rows).nearest(rows[0], measure=measure, epsilon=epsilon)
    for normalize in (False, True):
        Monitor([POINTS[:8]], threshold=0.5, normalize=normalize).extend(POINTS)


def main(arguments: list[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m midstreamer_kernels", description=__doc__)
    parser.add_argument("command", choices=("warm", "engines"))
    parser.add_argument("--searches", action="store_true", help="warm only searches of histories")
    given = parser.parse_args(arguments)
    if given.command == "engines":
        for engine in engines():
            sys.stdout.write(
                f"{engine.name}: {engine.instruction_set}, {engine.lanes} lanes of float32\n"
            )
        return
    if sys.stderr.isatty():
        sys.stderr.write("compiling the kernels, up to a minute the first time ...\n")
    ANNOUNCER.said = True  # the line above says it
    begin = time.perf_counter()
    warm_searches() if given.searches else warm()
    seconds = time.perf_counter() - begin
    sys.stdout.write(f"kernels are compiled and cached ({seconds:.1f} s)\n")


if __name__ == "__main__":
    main()
