"""The nearest analogs of a window: the one search of agents and of the backtest.

The kernels do not know of outcomes, so they may return windows that are no analogs because they
are flat or touch a value without a logarithm.  As many more are asked for as there are of these,
and they are left out: exact, and free where there are none.

Which windows may be analogs is the caller's to say, by the runs it gives: those known by then (see
`outcome.known_until`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

import midstreamer_kernels as kernels
from midstreamer.analogs import pieces
from midstreamer.domain.errors import BadInput, DeadlineExceeded, KernelFailure
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats, Integers
from midstreamer.domain.specification import Specification

_Made = TypeVar("_Made")


class Ground(NamedTuple):
    """The grid windows of all rows, one row after another in the arrays of outcomes and times."""

    firsts: Integers
    """Position of each row's first grid window, shape (rows,)."""
    offsets: Integers
    """Where each row begins in the arrays below, shape (rows,)."""
    outcomes: Floats
    """NaN for those that are no analogs."""
    times: Integers
    """Of the windows' last points."""


class Analogs(NamedTuple):
    """The nearest past windows of a query, nearest first, as arrays of shape (k,)."""

    which: Integers
    """The row of each."""
    start: Integers
    distance: Floats
    outcome: Floats
    time: Integers
    """Of its last point."""


Steps = Generator[None, None, Analogs]
"""Yields where others may have the thread (see `pieces`), returns the result."""


def ground(firsts: Sequence[int], outcomes: Sequence[Floats], times: Sequence[Integers]) -> Ground:
    """Rows laid one after another; ``times`` may be longer than what is settled of a row."""
    counts = [len(made) for made in outcomes]
    cut = [own[:count] for own, count in zip(times, counts, strict=True)]
    return Ground(
        np.array(firsts, dtype=np.int64),
        np.cumsum([0, *counts[:-1]], dtype=np.int64),
        np.concatenate([np.empty(0), *outcomes]),
        np.concatenate([np.empty(0, dtype=np.int64), *cut]),
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
    """The analogs nearest to a transformed query, shape (m,); a run for each row of ``laid``.

    ``barred`` says how many windows of the runs are no analogs.  When ``stop`` is set, in the
    midst of a comparison or not, DeadlineExceeded.
    """
    wanted = specification.neighbours + barred
    try:
        found = yield from pieces.nearest(runs, query, wanted, specification, engine, stop=stop)
    except kernels.StoppedError as error:
        raise DeadlineExceeded("a window was being compared when its search was stopped") from error
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
    """What steps come to when nobody else wants the thread."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # what the generator returns


def matches(analogs: Analogs, names: Sequence[str], name_of_row: Integers) -> Matches:
    """Analogs as a decision carries them; ``names`` are sorted, rows say which is theirs."""
    places, renamed = np.unique(name_of_row[analogs.which], return_inverse=True)
    return Matches(
        tuple(names[place] for place in places),
        renamed.astype("<u2").tobytes(),
        analogs.start.astype("<i8").tobytes(),
        analogs.time.astype("<i8").tobytes(),
        analogs.distance.astype("<f8").tobytes(),
        analogs.outcome.astype("<f8").tobytes(),
    )
