"""An allowed client tries to damage series of other clients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from midstreamer.domain.errors import BadInput, NotGranted
from midstreamer.domain.series import Column, column
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level
from midstreamer.security import allowlist
from midstreamer.security.allowlist import Allowlist
from tests.support.fleet import MINUTE, Fleet, append, running

pytestmark = [pytest.mark.integration, pytest.mark.each_carrier]

END_OF_TIME = 2**63 - 1
LISTED = "coordinator/*\nagent/*\nsync/*\nclient/*"


def a_tick(series: str, time: int) -> Column:
    return column(series, [time], [1.0])


def raw(series: str, *times: int) -> Column:
    """Return a column whose times were not checked."""
    return Column(series, np.array(times, dtype="<i8").tobytes(), np.ones(len(times)).tobytes())


def stored_of(fleet: Fleet, series: str) -> int:
    summary = fleet.coordinator()._catalogue.series(series)
    return summary.count if summary else 0


@pytest.mark.parametrize(
    "columns",
    [
        (raw("load/a", END_OF_TIME),),
        (raw("load/b", 0), raw("load/a", MINUTE, END_OF_TIME)),
        (raw("load/a", END_OF_TIME, -END_OF_TIME - 1),),
    ],
    ids=["alone", "behind good ticks", "before the least time"],
)
@pytest.mark.parametrize("level", [Level.DURABLE, Level.RECEIVED])
async def test_a_tick_at_the_end_of_time_does_not_close_a_series(
    columns: tuple[Column, ...], level: Level
) -> None:
    async with running(agents=["a1"]) as fleet:
        honest, hostile = await fleet.client("u1"), await fleet.client("u2")
        await append(honest, a_tick("load/a", 0))
        with pytest.raises(BadInput):
            await hostile.ask(frames.Append(columns=columns, level=level), budget_s=5)
        assert (await append(honest, a_tick("load/a", 2 * MINUTE))).stored == 1


def listing(limits: list[str]) -> Callable[[], Allowlist]:
    return lambda: allowlist.parse("\n".join([*LISTED.splitlines()[:3], *limits]))


async def test_a_client_cannot_append_to_a_universe_that_it_was_not_granted() -> None:
    limits = ["client/u1 universes=load", "client/u2 universes=stocks"]
    async with running(agents=["a1"], allowlist=listing(limits)) as fleet:
        honest, hostile = await fleet.client("u1"), await fleet.client("u2")
        assert (await append(honest, a_tick("load/a", 0))).stored == 1
        with pytest.raises(NotGranted, match="client/u2 may not append to load/a: .*: stocks;"):
            await append(hostile, a_tick("stocks/x", 0), a_tick("load/a", MINUTE))
        assert stored_of(fleet, "stocks/x") == 0  # a refused Append stores no part of its data
        assert (await append(hostile, a_tick("stocks/x", 0))).stored == 1
        assert (await append(honest, a_tick("load/a", MINUTE))).stored == 1


async def test_a_grant_that_is_taken_back_counts_for_the_next_append_of_an_open_link() -> None:
    limits = ["client/u2"]
    async with running(agents=["a1"], allowlist=listing(limits)) as fleet:
        client = await fleet.client("u2")
        assert (await append(client, a_tick("load/a", 0))).stored == 1
        limits[:] = ["client/u2 universes=stocks"]
        with pytest.raises(NotGranted):
            await append(client, a_tick("load/a", MINUTE))
        limits[:] = ["client/u2 universes=stocks,load"]
        assert (await append(client, a_tick("load/a", MINUTE))).stored == 1
