"""A `Ledger` of outcomes that is filled in parts equals one that is filled at once."""

import numpy as np
import pytest

import midstreamer_kernels as kernels
from midstreamer.agent.shard_data import Held
from midstreamer.analogs.outcome_ledger import CELLS_AT_ONCE, Ledger
from midstreamer.domain import outcome
from midstreamer.domain.shard import Shard
from tests.support.fleet import MINUTE, a_specification, a_walk

WINDOW = 1024
SPECIFICATION = a_specification(window=WINDOW, grid=1)
WALK = a_walk(4 * WINDOW)
ALL = 10 * WINDOW


@pytest.mark.parametrize("grid", [1, 3])
def test_outcomes_settled_in_parts_are_those_settled_at_once(grid: int) -> None:
    specification = a_specification(window=WINDOW, grid=grid)
    ledger, parts = Ledger(7, len(WALK), specification), 1

    while not ledger.extend(WALK[7:], 7):
        parts += 1

    firsts = outcome.grid_firsts(7, len(WALK) - specification.horizon, specification)
    expected = outcome.outcomes(WALK, firsts, specification)
    settled = ledger.settled(ALL)
    assert parts == -(-len(firsts) // (CELLS_AT_ONCE // WINDOW)) > 2
    assert settled.outcomes.tobytes() == expected.tobytes()
    assert (settled.ups, settled.known) == outcome.tally(expected)


def test_what_was_settled_before_a_search_was_stopped_is_kept() -> None:
    held, stop = Held(Shard("walk/a", 0), len(WALK)), kernels.Stop()
    held.append(0, np.arange(len(WALK), dtype=np.int64) * MINUTE, WALK)
    stop.set()

    settled = []
    for _ in range(2):
        with pytest.raises(kernels.StoppedError):
            held.ledger(SPECIFICATION, stop)
        (ledger,) = held._ledgers.values()
        settled.append(len(ledger))

    assert settled == [CELLS_AT_ONCE // WINDOW, 2 * CELLS_AT_ONCE // WINDOW]
    assert len(held.ledger(SPECIFICATION)) == len(WALK) - WINDOW - SPECIFICATION.horizon + 1
