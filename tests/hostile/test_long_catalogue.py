"""A fleet becomes ready although it has more long series names than one frame can hold."""

from __future__ import annotations

import pytest

from midstreamer.agent import searching
from midstreamer.domain.series import column, window
from midstreamer.protocol.frames import Points
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Effects
from midstreamer.transport.memory import MemoryNetwork
from tests.support.fleet import MINUTE, Fleet, a_specification, match

pytestmark = pytest.mark.integration

SERIES = 25_000
POINTS = 8
SPECIFICATION = a_specification(window=4, horizon=1, band=1, grid=1)


async def a_full_store() -> MemoryStore:
    """Return a store that one client filled with a few ticks for each of `SERIES` series."""
    store = MemoryStore()
    names = (f"walk/{'n' * 110}{number:08d}" for number in range(SERIES))
    times, values = [at * MINUTE for at in range(POINTS)], [20.0, 23.0, 21.0, 26.0] * 2
    points = [(0, column(name, times, values)) for name in names]
    async with store.transaction() as writing:
        await writing.apply(
            Effects(
                points=points, changes=[Points(start, points_of) for start, points_of in points]
            )
        )
    return store


async def test_a_fleet_that_starts_with_more_series_than_fit_a_frame_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The fleet needs 14 s to become ready on an idle machine.
    monkeypatch.setattr("tests.support.fleet.WITHIN_S", 60.0)
    searching.warm_up("auto")
    fleet = Fleet(MemoryNetwork(), await a_full_store(), lease_s=5.0)
    await fleet.start_sync()
    await fleet.start_coordinator("c1")
    for name in ("a1", "a2"):
        await fleet.start_agent(name)
    try:
        await fleet.settled(agents=2)
        assert len(fleet.agent("a1").holdings) == SERIES
        client = await fleet.client()
        asked = window([1.0, 4.0, 2.0, 7.0], time=100 * MINUTE)
        (decision,) = (await match(client, SPECIFICATION, asked)).decisions
        assert len(decision.matches) == SPECIFICATION.neighbours
        await fleet.stop("c1")
        await fleet.start_coordinator("c1")
        await fleet.settled(agents=2)
    finally:
        for name in reversed(list(fleet.tasks)):
            await fleet.stop(name)
