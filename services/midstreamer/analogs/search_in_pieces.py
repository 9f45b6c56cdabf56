"""The nearest windows of one search, computed in pieces when the search may take long.

Comparing long windows with a wide band against a long history takes hours. So a search that may
take long is divided, and between two pieces the caller may give the thread to other work. The
result is the same bit for bit: the distance of a window depends on the window only, and the results
of the pieces are merged in the order that the kernels use. The largest distance kept so far is the
cutoff of the next piece: windows that cannot be nearer are dropped early, as in one whole search.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Measure, Specification

CELLS_MAX = 1 << 27
"""Maximum number of cost-matrix cells in one piece, if the kernels skip none of its windows.

So many cells take about 0.3 s on one processor. A usual search has far fewer and is one piece.
"""

WINDOWS_MAX = 1 << 18
"""Maximum windows in one piece: with more, the WebAssembly engine cannot stop within 5 ms."""


class Nearest(NamedTuple):
    """The windows found, nearest first, as arrays of shape (k,)."""

    which: Integers
    """For each window, the index in ``runs`` (of `nearest`) of the run that contains the window."""
    start: Integers
    """Position of each window's first point in its series."""
    distance: Floats
    """Distance of each window to the query."""


Steps = Generator[None, None, Nearest]
"""A generator that yields between two pieces of a search and returns the windows found."""


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
    """Find the ``k`` windows nearest to a query, shape (m,), among all runs.

    `midstreamer_kernels.StoppedError` is raised once ``stop`` is set.
    """
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
        piece = Nearest(rows[which], start, distance)
        best = _merged(best, piece, k) if place else piece
    return best


def divided(
    runs: Sequence[kernels.Run], specification: Specification, cells_max: int
) -> Iterator[tuple[Integers, list[kernels.Run]]]:
    """Divide the runs into pieces; comparing one piece takes at most ``cells_max`` matrix cells.

    A piece is a list of parts of runs, because a run may be too large for one piece. An array comes
    with each piece. The array has one entry for each part: an index in ``runs``, which tells the
    run from which the part was taken.
    """
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
    """Return the first position at which a window of the run begins, and one past the last."""
    first, last, until = run.first, run.last, run.until
    assert first is not None and last is not None and until is not None  # noqa: S101, PT018 - callers set all
    return first, max(first, min(last, until - length + 1))


def _merged(first: Nearest, second: Nearest, k: int) -> Nearest:
    """Return the ``k`` nearest windows of two search results."""
    which = np.concatenate([first.which, second.which])
    start = np.concatenate([first.start, second.start])
    distance = np.concatenate([first.distance, second.distance])
    order = np.lexsort((start, which, distance))[:k]
    return Nearest(which[order], start[order], distance[order])
