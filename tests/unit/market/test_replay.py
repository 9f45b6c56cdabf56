"""Ticks are replayed to a whole fleet, which runs in this process and uses the memory carrier."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.domain.errors import Conflict, DeadlineExceeded, StaleTick, Unavailable
from midstreamer.domain.series import Column, Tick
from midstreamer.market import feeds, replay
from midstreamer.market.replay import Event, Loading, Replay, ReplayPlan, Resumed, Stepped, Waiting
from midstreamer.market.replay_tally import Tally
from midstreamer.protocol.frames import Appended
from tests.support import fleet
from tests.support.client_builders import QUICK, Script, a_carrier, scripted

SPECIFICATION = fleet.a_specification(window=16, horizon=3)
HISTORY, LIVE = 120, 30


def a_table(columns: Sequence[Column]) -> feeds.Table:
    names = tuple(column.series for column in columns)
    which = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    return feeds.table(
        names,
        which,
        np.concatenate([column.times_array() for column in columns]),
        np.concatenate([column.values_array() for column in columns]),
    )


def a_plan(table: feeds.Table, *, until: int = HISTORY + LIVE, **changes: object) -> ReplayPlan:
    middle = HISTORY * fleet.MINUTE
    return ReplayPlan(
        SPECIFICATION,
        table.between(middle, until * fleet.MINUTE),
        history=table.between(None, middle),
        **changes,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def a_client(running: fleet.Fleet) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(a_carrier(running.network), ["c1:1"], deadline_s=10.0, policy=QUICK)
    async with client:
        yield client


async def events_of(client: AsyncClient, plan: ReplayPlan) -> list[Event]:
    events: list[Event] = []
    await Replay(client, plan, events.append).run()
    return events


def tallied(events: Sequence[Event]) -> Tally:
    tally = Tally()
    for event in events:
        tally.take(event)
    return tally


async def test_every_full_window_is_decided_once_and_judged_a_horizon_later() -> None:
    table = a_table(fleet.a_universe(2, HISTORY + LIVE))
    async with fleet.running(agents=("a1", "a2")) as running, a_client(running) as client:
        tally = tallied(await events_of(client, a_plan(table)))
        surveyed = await client.survey()
    assert (tally.history, tally.ticks, tally.steps) == (2 * HISTORY, 2 * LIVE, LIVE)
    assert tally.decisions == 2 * LIVE == surveyed.decisions
    assert len(tally.settled) == 2 * (LIVE - 3) == surveyed.verdicts
    assert len(tally.pending) == 2 * 3
    assert tally.match.count == tally.append.count == LIVE


async def test_a_second_run_takes_over_what_is_stored_and_goes_on() -> None:
    table = a_table(fleet.a_universe(2, HISTORY + LIVE))
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        first = await events_of(client, a_plan(table, until=HISTORY + 12))
        second = await events_of(client, a_plan(table))
    before, after = tallied(first), tallied(second)
    assert (before.decisions, before.repeated) == (24, 0)
    assert (after.decisions, after.repeated, after.ticks) == (60, 24, 60)
    assert len(after.settled) == 2 * (LIVE - 3)
    stored = [event for event in second if isinstance(event, Resumed)]
    assert [decision for event in stored for decision in event.decisions] == [
        decision for event in first if isinstance(event, Stepped) for decision in event.decisions
    ]


async def test_data_that_changed_since_is_a_conflict() -> None:
    columns = fleet.a_universe(1, HISTORY + LIVE)
    other = fleet.a_universe(1, HISTORY + LIVE)
    values = other[0].values_array().copy()
    values[HISTORY + 5 :] += 1.0
    other[0] = Column(other[0].series, other[0].times, values.tobytes())
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        await events_of(client, a_plan(a_table(columns)))
        with pytest.raises(Conflict, match=r"decision on walk/00 at .* used other values"):
            await events_of(client, a_plan(a_table(other)))


async def test_windows_that_are_not_full_yet_are_only_appended() -> None:
    table = a_table(fleet.a_universe(1, 20))
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        tally = tallied(await events_of(client, ReplayPlan(SPECIFICATION, table)))
    assert (tally.ticks, tally.decisions) == (20, 5)


async def test_a_live_feed_of_unknown_length_is_replayed_as_it_comes() -> None:
    column = fleet.a_column(20)
    pairs = zip(column.times_array().tolist(), column.values_array().tolist(), strict=True)
    ticks = [Tick(column.series, *pair) for pair in pairs]
    async with fleet.running(agents=("a1",)) as running, a_client(running) as client:
        plan = ReplayPlan(SPECIFICATION, replay.in_thread(feeds.steps(ticks)))
        events = await events_of(client, plan)
    assert [event.total for event in events if isinstance(event, Stepped)] == [0] * 20


async def test_a_replay_reports_an_outage_and_goes_on_after_it() -> None:
    answers = Appended(stored=1, position=1)
    script = Script(Unavailable("sync is away"), Unavailable("still"), answers)
    table = a_table([fleet.a_column(3)])
    async with scripted(script) as client:
        events = await events_of(client, ReplayPlan(SPECIFICATION, table))
        assert client.on_retry is None
    waited = [event for event in events if isinstance(event, Waiting)]
    assert [event.message for event in waited] == ["sync is away", "still"]
    assert len([event for event in events if isinstance(event, Stepped | Resumed)]) >= 1


async def test_patience_ends() -> None:
    table = a_table([fleet.a_column(3)])
    async with scripted(Script(Unavailable("sync is away"))) as client:
        with pytest.raises(DeadlineExceeded, match="sync is away"):
            await events_of(client, ReplayPlan(SPECIFICATION, table, patience_s=0.05))


async def test_a_broken_live_feed_stops_the_replay_where_it_breaks() -> None:
    ticks = [Tick("walk/a", 2, 1.0), Tick("walk/a", 3, 1.0), Tick("walk/a", 1, 1.0)]
    script = Script(Appended(stored=1, position=1))
    async with scripted(script) as client:
        plan = ReplayPlan(SPECIFICATION, replay.in_thread(feeds.steps(ticks)))
        with pytest.raises(StaleTick):
            await events_of(client, plan)
    assert len(script.asked) == 1


async def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    awake: list[float] = []

    async def sleep(delay_s: float) -> None:
        awake.append(time.monotonic() + delay_s)

    table = a_table([fleet.a_column(10)])
    async with scripted(Script(Appended(stored=1, position=1))) as client:
        ticks = feeds.steps(tick for step in table.steps() for tick in step.ticks)
        plan = ReplayPlan(SPECIFICATION, replay.each(ticks), rate=100.0)
        monkeypatch.setattr(replay, "pause", sleep)
        began = time.monotonic()
        await events_of(client, plan)
    assert len(awake) == 10
    assert awake[-1] - began >= 0.1


def test_events_are_values() -> None:
    assert Loading(1, 2, 1, 0) == Loading(1, 2, 1, 0)
