"""The nearest windows of one search, found piece by piece when finding them may take long.

To compare long windows with a wide band against all windows of a long history takes hours.  So what
may take long is divided: between two pieces the caller lets others have the thread.  The result is
the same to the bit: each window's distance depends on nothing but the window, and what the pieces
found is merged in the order of the kernels.  The distance of the last that is kept bounds the next
piece, so that little is compared twice over.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Measure, Specification

CELLS_MAX = 1 << 27
"""Of one piece, if no bound rules out any window: some 0.3 s of one processor. Usual searches have
fewer, or far fewer, and are one piece."""

WINDOWS_MAX = 1 << 18
"""Of one piece: more than these the WebAssembly engine cannot leave within 5 ms."""


class Nearest(NamedTuple):
    """Row, position and distance of each window found, nearest first."""

    which: Integers
    start: Integers
    distance: Floats


Steps = Generator[None, None, Nearest]
"""Yields between pieces, returns the result."""


def nearest(
    runs: Sequence[kernels.Run],
    query: Floats,
    k: int,
    specification: Specification,
    engine: str,
    *,
    cells_max: int = CELLS_MAX,
    stop: kernels.Stop | None = None,
) -> Steps:
    """The ``k`` windows nearest to a query among all runs; `kernels.StoppedError` once ``stop``."""
    best = Nearest(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    lcss = specification.measure is Measure.LCSS
    for place, (rows, part) in enumerate(divided(runs, specification, cells_max)):
        if place:
            yield
        found = kernels.nearest(
            part,
            query,
            k,
            measure=specification.measure.value,
            epsilon=specification.epsilon if lcss else None,
            band=specification.band,
            step=specification.grid,
            cutoff=float(best.distance[-1]) if len(best.distance) == k else None,
            engine=engine,
            stop=stop,
        )
        which, start, distance = found
        made = Nearest(rows[which], start, distance)
        best = _merged(best, made, k) if place else made
    return best


def divided(
    runs: Sequence[kernels.Run], specification: Specification, cells_max: int
) -> Iterator[tuple[Integers, list[kernels.Run]]]:
    """The runs in pieces of so many cells at most, each with the rows they belong to."""
    length = specification.window
    cells = length * min(2 * specification.band + 1, length)
    most = min(WINDOWS_MAX, max(1, cells_max // cells)) * specification.grid
    spans = [_span(run, length) for run in runs]
    if sum(end - begin for begin, end in spans) <= most:
        yield np.arange(len(runs)), list(runs)
        return
    rows: list[int] = []
    part: list[kernels.Run] = []
    left = most
    for row, (run, (begin, end)) in enumerate(zip(runs, spans, strict=True)):
        at = begin
        while at < end:
            stop = min(end, at + left)
            rows.append(row)
            part.append(kernels.Run(run.history, at, stop, run.until))
            left -= stop - at
            at = stop
            if not left:
                yield np.array(rows), part
                rows, part, left = [], [], most
    if part:
        yield np.array(rows), part


def _span(run: kernels.Run, length: int) -> tuple[int, int]:
    """First of the positions at which its windows begin, and one past the last."""
    first, last, until = run.first, run.last, run.until
    assert first is not None and last is not None and until is not None  # noqa: S101, PT018 - see `Search`
    return first, max(first, min(last, until - length + 1))


def _merged(one: Nearest, other: Nearest, k: int) -> Nearest:
    which = np.concatenate([one.which, other.which])
    start = np.concatenate([one.start, other.start])
    distance = np.concatenate([one.distance, other.distance])
    order = np.lexsort((start, which, distance))[:k]
    return Nearest(which[order], start[order], distance[order])
