"""A search that is done in pieces gives the same bits as a search in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from midstreamer.analogs import search_in_pieces
from midstreamer.domain.specification import Measure, Specification
from midstreamer_kernels import History, Run
from tests.support.fleet import a_specification, a_walk

SHARDS = 5


def searched(specification: Specification, k: int, cells_max: int) -> tuple[int, list[bytes]]:
    """Search overlapping shards in pieces; return the number of pieces and the results as bytes."""
    runs = []
    for place in range(SHARDS):
        history = History(start=100 * place, dtype="float64")
        history.append(a_walk(160, seed=place // 2))
        runs.append(Run(history, 100 * place, 100 * place + 120, 100 * place + 150))
    steps = search_in_pieces.nearest(
        runs, a_walk(16, seed=9), k, specification, "auto", cells_max=cells_max
    )
    count = 1
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as done:
            return count, [np.asarray(part).tobytes() for part in done.value]


@pytest.mark.parametrize("measure", Measure)
@pytest.mark.parametrize("grid", [1, 3])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_pieces_find_what_the_whole_search_finds(measure: Measure, grid: int, k: int) -> None:
    specification = a_specification(measure=measure, epsilon=0.3, grid=grid, band=2)
    undivided = searched(specification, k, 1 << 40)
    for cells_max in (1, 16 * 5 * 10, 16 * 5 * 150):
        count, found = searched(specification, k, cells_max)
        assert count > undivided[0] == 1
        assert found == undivided[1]
