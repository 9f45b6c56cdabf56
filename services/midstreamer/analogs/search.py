"""Search for the analogs nearest to a window. Agents and the backtest share this code.

The kernels know nothing of outcomes, so they may return windows that cannot be analogs: flat
windows, and windows with an unusable value in them or at their outcome (see `outcome.history`). If
the history has n such windows, the search asks the kernels for n windows more than it needs, and
drops such windows from the result. So the result is exact, and a history without such windows costs
nothing extra.

The caller decides which windows may be analogs, by the runs that it passes: only windows with an
outcome known at the time (see `outcome.known_until`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.analogs import search_in_pieces
from midstreamer.domain.errors import BadInput, DeadlineExceeded, KernelFailure
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Specification

_Made = TypeVar("_Made")


class Ground(NamedTuple):
    """All grid windows that a search compares with its query.  They are in rows: each row has the
    windows of one run, which is one series or one shard.  ``outcomes`` and ``times`` contain all
    rows, one after the other.
    """

    firsts: Integers
    """For each row, the position of the row's first grid window in the series, shape (rows,)."""
    offsets: Integers
    """Index in ``outcomes`` and ``times`` at which each row begins, shape (rows,)."""
    outcomes: Floats
    """Scaled outcome of each window, shape (n,); NaN for a window that cannot be an analog."""
    times: Integers
    """Event time of each window's last point, shape (n,)."""


class Analogs(NamedTuple):
    """The past windows nearest to a query, nearest first, as arrays of shape (k,)."""

    which: Integers
    """Row of each analog: the index of its run in the list of searched runs."""
    start: Integers
    """Position of each analog's first point in its series."""
    distance: Floats
    """Distance of each analog to the query."""
    outcome: Floats
    """Scaled outcome of each analog."""
    time: Integers
    """Event time of each analog's last point."""


Steps = Generator[None, None, Analogs]
"""A generator that yields whenever the thread may do other work, and returns the analogs at the end
(see `search_in_pieces`)."""


def ground(firsts: Sequence[int], outcomes: Sequence[Floats], times: Sequence[Integers]) -> Ground:
    """Return a `Ground`, from arguments that have one entry for each row.

    A row has the windows of one run. ``firsts`` holds the position of the first window of each row.
    A row may have more times than outcomes; the times beyond the last outcome are left out.
    """
    counts = [len(row) for row in outcomes]
    cut_times = [row_times[:count] for row_times, count in zip(times, counts, strict=True)]
    return Ground(
        np.array(firsts, dtype=np.int64),
        np.cumsum([0, *counts[:-1]], dtype=np.int64),
        np.concatenate([np.empty(0), *outcomes]),
        np.concatenate([np.empty(0, dtype=np.int64), *cut_times]),
    )


def nearest(
    runs: Sequence[kernels.Run],
    query: Floats,
    specification: Specification,
    laid: Ground,
    *,
    barred: int,
    engine: str = "auto",
    stop: kernels.Stop | None = None,
) -> Steps:
    """Find the analogs nearest to a transformed query, shape (m,).

    Row i of ``laid`` describes the windows of ``runs[i]``. ``barred`` is the number of windows that
    cannot be analogs, summed over all runs. DeadlineExceeded is raised when ``stop`` is set, even
    during a comparison.
    """
    wanted = specification.neighbours + barred
    try:
        found = yield from search_in_pieces.nearest(
            runs, query, wanted, specification, engine, stop=stop
        )
    except kernels.StoppedError as error:
        raise DeadlineExceeded(
            "the search was stopped while windows were being compared"
        ) from error
    except kernels.InputError as error:
        raise BadInput(str(error)) from error
    except kernels.KernelError as error:
        raise KernelFailure(str(error)) from error
    which, start, distance = found
    places = laid.offsets[which] + (start - laid.firsts[which]) // specification.grid
    outcomes = laid.outcomes[places]
    kept = np.flatnonzero(~np.isnan(outcomes))[: specification.neighbours]
    return Analogs(
        which[kept], start[kept], distance[kept], outcomes[kept], laid.times[places[kept]]
    )


def whole(steps: Generator[None, None, _Made]) -> _Made:
    """Run a generator of steps to its end without pausing, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # what the generator returns


def matches(analogs: Analogs, names: Sequence[str], name_of_row: Integers) -> Matches:
    """Return analogs as `Matches`.

    ``names`` are the sorted names of series; ``name_of_row`` gives, for each row, an index in
    ``names``.
    """
    places, renamed = np.unique(name_of_row[analogs.which], return_inverse=True)
    return Matches(
        tuple(names[place] for place in places),
        renamed.astype("<u2").tobytes(),
        analogs.start.astype("<i8").tobytes(),
        analogs.time.astype("<i8").tobytes(),
        analogs.distance.astype("<f8").tobytes(),
        analogs.outcome.astype("<f8").tobytes(),
    )
