"""The promises of every store: one suite, run on the memory store and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np
import pytest

from midstreamer.domain import series
from midstreamer.domain.errors import Behind, QuotaExceeded, StoreError, UnknownSeries
from midstreamer.domain.specification import Transform
from midstreamer.protocol.frames import Caller, Joined, Learned, Member, Points
from midstreamer.store import admin
from midstreamer.store.store_interface import (
    Effects,
    FleetView,
    Mark,
    Point,
    Run,
    Store,
    StoredState,
    Usage,
)
from midstreamer.sync.quota import Quotas
from tests.support import recomputed_states
from tests.support import store_builders as build
from tests.support.fleet import eventually


@pytest.fixture(scope="module")
def server() -> str:
    return build.the_server().dsn


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
async def store(request: pytest.FixtureRequest, server: str) -> AsyncIterator[Store]:
    async with build.a_store(server if request.param == "postgres" else "") as opened:
        yield opened


async def test_what_is_appended_can_be_loaded(store: Store) -> None:
    async with store.transaction() as writing:
        await writing.apply(Effects(points=[(0, build.a_column(0, 10))]))
    (part,) = await store.load([Run("test/A", 3, 8)], 100)
    assert (part.start, part.count) == (3, 10)
    assert part.values.tolist() == [build.value_at(at) for at in range(3, 8)]
    assert part.times.dtype == np.dtype("<i8")


async def test_a_large_column_is_stored_as_a_small_one_is(store: Store) -> None:
    async with store.transaction() as writing:
        await writing.apply(Effects(points=[(0, build.a_column(0, 5000))]))
        await writing.apply(Effects(points=[(5000, build.a_column(5000, 5003))]))
    (part,) = await store.load([Run("test/A", 0, 10**9)], 10**6)
    assert part.values.tolist() == [build.value_at(at) for at in range(5003)]
    (only,) = (await store.catalogue("", 10)).series
    assert (only.count, only.first_time, only.last_time) == (5003, 0, 5002 * build.STEP)


async def test_the_catalogue_is_read_in_pages_by_code_points(store: Store) -> None:
    names = sorted(["u/a", "u/B", "u/a-b", "u/a.b", "u/a_b", "u/aa", "u/b"])
    points = [(0, build.a_column(0, place + 1, name=name)) for place, name in enumerate(names)]
    async with store.transaction() as writing:
        await writing.apply(Effects(points=points))
    listed, after, more = [], "", True
    while more:
        page = await store.catalogue(after, 3)
        assert len(page.series) <= 3
        listed += [(one.series, one.count) for one in page.series]
        after, more = listed[-1][0], page.more
    assert listed == [(name, place + 1) for place, name in enumerate(names)]
    assert (await store.totals()).ticks == sum(count for _, count in listed)


async def test_runs_of_several_series_are_loaded_together(store: Store) -> None:
    names = ("test/A", "test/B", "test/C")
    async with store.transaction() as writing:
        await writing.apply(Effects(points=[(0, build.a_column(0, 9, name=n)) for n in names]))
    runs = [Run("test/B", 0, 3), Run("test/A", 20, 30), Run("test/C", 5, 99), Run("test/B", 2, 4)]
    found = await store.load(runs, 100)
    assert [len(part.times) for part in found] == [3, 0, 4, 2]
    assert found[2].values.tolist() == [build.value_at(at) for at in (5, 6, 7, 8)]
    assert [len(part.times) for part in await store.load(runs, 5)] == [3, 0, 2]
    assert [len(part.times) for part in await store.load(runs, 3)] == [3, 0]


async def test_no_more_than_the_limit_is_loaded(store: Store) -> None:
    async with store.transaction() as writing:
        await writing.apply(Effects(points=[(0, build.a_column(0, 10))]))
    (part,) = await store.load([Run("test/A", 2, 10)], 3)
    assert part.times.tolist() == [2 * build.STEP, 3 * build.STEP, 4 * build.STEP]


async def test_an_unknown_series_is_named(store: Store) -> None:
    with pytest.raises(UnknownSeries, match="test/none"):
        await store.load([Run("test/none", 0, 1)], 1)


async def test_a_block_that_fails_leaves_nothing(store: Store) -> None:
    async def fail() -> None:
        async with store.transaction():
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await fail()
    assert (await store.totals()).ticks == 0


async def test_writers_are_alone(store: Store) -> None:
    inside = 0

    async def write() -> None:
        nonlocal inside
        async with store.transaction() as writing:
            inside += 1
            assert inside == 1
            await writing.summaries(["test/A"])
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(write())


async def test_stored_ticks_are_read_by_time_and_by_position(store: Store) -> None:
    async with store.transaction() as writing:
        await writing.apply(Effects(points=[(0, build.a_column(0, 10))]))
    async with store.transaction() as writing:
        assert set(await writing.summaries(["test/A", "test/B"])) == {"test/A"}
        times = np.array([4, 7, 99]) * build.STEP
        found = await writing.ticks({"test/A": times})
        runs = [Run("test/A", 7, 12), Run("test/A", -1, 2), Run("test/A", 10, 12), Run("x/B", 0, 9)]
        windows = await writing.windows(runs)
        points = await writing.points_at([("test/A", 9), ("test/A", 10), ("test/B", 0)])
    assert found["test/A"].times.tolist() == [4 * build.STEP, 7 * build.STEP]
    assert found["test/A"].values.tolist() == [build.value_at(4), build.value_at(7)]
    assert {run: values.tolist() for run, values in windows.items()} == {
        runs[0]: [build.value_at(at) for at in (7, 8, 9)],
        runs[1]: [build.value_at(at) for at in (0, 1)],
    }
    assert points == {("test/A", 9): Point(9 * build.STEP, build.value_at(9))}


async def test_the_feed_tells_changes_in_order_of_commit(store: Store) -> None:
    for start in (0, 10):
        column = build.a_column(start, start + 10)
        async with store.transaction() as writing:
            await writing.apply(Effects(points=[(start, column)], changes=[Points(start, column)]))
    page = await store.feed(0, 100)
    assert [change.start for change in page.changes if isinstance(change, Points)] == [0, 10]
    assert page.position == await store.position() == 2
    assert (await store.feed(1, 100)).changes == page.changes[1:]
    assert (await store.feed(2, 100)).changes == ()


async def test_a_follower_too_far_behind_is_told_so(store: Store) -> None:
    for _ in range(5):
        async with store.transaction() as writing:
            await writing.apply(Effects(changes=[Joined(())]))
    assert await store.trim(2) == 3
    assert (await store.feed(3, 10)).position == 5
    for after in (2, 6):
        with pytest.raises(Behind, match="load again"):
            await store.feed(after, 10)


async def test_a_late_follower_gets_only_the_newest_state(store: Store) -> None:
    committer = build.a_committer(store)
    await build.commit(committer, build.a_write(build.a_column(0, 6)))
    for index in (4, 5):
        await build.commit(committer, build.a_write(decisions=[build.a_decision(index)]))
    page = await store.feed(0, 10)
    ((_, state),) = await store.streams()
    assert page.changes[1:] == (Learned(*state),)
    assert await store.state(state.stream) == (page.position, state)
    assert await store.state("other") == (page.position, None)
    light = await store.feed(0, 10, states=False)
    assert light.changes[1:] == (Learned(state.stream, 1, b""), Learned(state.stream, 2, b""))[1:]
    assert light.position == page.position


async def test_a_state_is_stored_only_over_the_one_it_came_from(store: Store) -> None:
    spec = build.SPECIFICATION
    committer = build.a_committer(store)
    write = build.a_write(build.a_column(0, 6), decisions=[build.a_decision(5)])
    await build.commit(committer, write)
    skipping = StoredState(spec.stream, 7, b"other")
    with pytest.raises(StoreError, match="another sync has stored a newer state"):
        async with store.transaction() as writing:
            await writing.apply(Effects(states=[(spec, skipping)]))
    ((_, kept),) = await store.streams()
    assert kept.version == 1


async def test_known_states_are_not_sent_again(store: Store) -> None:
    stream = build.SPECIFICATION.stream
    committer = build.a_committer(store)
    write = build.a_write(build.a_column(0, 6), decisions=[build.a_decision(5)])
    await build.commit(committer, write)
    async with store.transaction() as writing:
        assert await writing.states({stream: 1}) == {}
        assert (await writing.states({stream: 0}))[stream].version == 1


async def test_decisions_and_verdicts_come_back_as_they_were(store: Store) -> None:
    committer = build.a_committer(store)
    decision = build.a_decision(5)
    write = build.a_write(build.a_column(0, 8), decisions=[decision])
    (verdict,) = (await build.commit(committer, write)).verdicts
    assert await store.experiences([decision.experience_id, b"none"]) == ([decision], [verdict])


async def test_series_and_streams_are_counted_for_who_made_them(store: Store) -> None:
    committer = build.a_committer(store)
    columns = [build.a_column(0, 6), build.a_column(0, 6, name="test/B")]
    callers = Caller("client/u1", 1, 1), Caller("client/u2", 1)
    write = build.a_write(*columns, decisions=[build.a_decision(5)])
    await build.commit(committer, msgspec.structs.replace(write, callers=callers))
    again = build.a_write(build.a_column(6, 9), build.a_column(6, 9, name="test/B"), sequence=2)
    await build.commit(committer, msgspec.structs.replace(again, callers=(Caller("client/u3", 2),)))
    async with store.transaction() as writing:
        total, each = await writing.usage(["client/u1", "client/u2", "client/u3"])
        known = await writing.known_streams([build.SPECIFICATION.stream, "none"])
    assert (total, known) == (Usage(2, 1), {build.SPECIFICATION.stream})
    assert each == {"client/u1": Usage(1, 1), "client/u2": Usage(1, 0)}
    assert await store.faults() == []


async def test_what_was_refused_is_not_counted(store: Store) -> None:
    committer = build.a_committer(store, Quotas(series_per_identity_max=1))
    columns = build.a_column(0, 6), build.a_column(0, 6, name="test/B")
    with pytest.raises(QuotaExceeded):
        await build.commit(committer, build.a_write(*columns))
    async with store.transaction() as writing:
        assert await writing.usage(["c1"]) == (Usage(), {})


async def test_marks_are_kept_by_identity_and_incarnation(store: Store) -> None:
    mark = Mark("c1", "first", 7, 1, 2)
    async with store.transaction() as writing:
        await writing.apply(Effects(marks=[mark]))
    async with store.transaction() as writing:
        found = await writing.marks([("c1", "first"), ("c1", "second")])
    assert found == {("c1", "first"): mark}


async def test_members_are_told_once_and_again_only_on_change(store: Store) -> None:
    member = Member("agent/a", "first", "", 3, 1, {"serial": "1"}, "list", 3)
    first = await store.renew(member, 30.0)
    assert (first.changed, first.members) == (True, (member,))
    again = Member("agent/a", "first", "", 9, 2, {"serial": "1"}, "list", 9)
    assert not (await store.renew(again, 30.0)).changed
    assert (await store.present()).members == (again,)
    assert (await store.leave("agent/a")).members == ()
    announced = [c.members for c in (await store.feed(0, 10)).changes if isinstance(c, Joined)]
    assert announced == [(member,), ()]


@pytest.mark.parametrize(
    "news",
    [
        {"incarnation": "second"},
        {"address": "elsewhere:1"},
        {"whole_for": "another list"},
        {"whole_for": ""},
        {"evidence": {"stage": "draining"}},
    ],
)
async def test_what_others_go_by_is_told_with_the_renewal_that_changes_it(
    store: Store, news: dict[str, Any]
) -> None:
    member = Member("agent/a", "first", "here:1", 3, whole_for="list", whole_at=3)
    other = Member("agent/b", "first", "")
    await store.renew(member, 30.0)
    await store.renew(other, 30.0)
    changed = msgspec.structs.replace(member, **news)
    view = await store.renew(changed, 30.0)
    assert (view.changed, view.members) == (True, (changed, other))
    assert (await store.expire()).members == (changed, other)


async def test_a_renewal_without_news_gives_the_fleet_as_it_is(store: Store) -> None:
    member, other = Member("agent/a", "first", ""), Member("agent/b", "first", "")
    await store.renew(member, 30.0)
    joined = await store.renew(other, 30.0)
    moved = msgspec.structs.replace(member, position=7, evidence={"serial": "2"})
    view = await store.renew(moved, 30.0)
    assert view == FleetView(joined.position, (moved, other), changed=False)
    assert await store.expire() == view


async def test_a_member_that_is_asked_to_drain_hears_of_it_whenever_it_renews(store: Store) -> None:
    member, other = Member("agent/a", "first", ""), Member("agent/b", "first", "")
    await store.renew(member, 30.0)
    await store.renew(other, 30.0)
    assert await store.retire("agent/a") == member
    assert (await store.renew(member, 30.0)).drain
    draining = msgspec.structs.replace(member, evidence={"stage": "draining"})
    assert (await store.renew(draining, 30.0)).drain
    assert not (await store.renew(other, 30.0)).drain


async def test_a_new_incarnation_was_not_asked_to_drain(store: Store) -> None:
    member = Member("agent/a", "first", "")
    await store.renew(member, 30.0)
    await store.retire("agent/a")
    successor = msgspec.structs.replace(member, incarnation="second")
    assert not (await store.renew(successor, 30.0)).drain
    assert not (await store.renew(successor, 30.0)).drain


async def test_only_who_has_a_lease_can_be_asked_to_drain(store: Store) -> None:
    await store.renew(Member("agent/a", "first", ""), -1.0)
    assert await store.retire("agent/a") is None
    assert await store.retire("agent/b") is None


async def test_who_watches_hears_of_what_others_commit(store: Store) -> None:
    heard: list[int] = []
    watching = asyncio.create_task(store.watch(heard.append, period_s=60.0))
    await eventually(lambda: heard == [0])
    view = await store.renew(Member("agent/a", "first", ""), 30.0)
    await eventually(lambda: heard == [0, view.position])
    watching.cancel()
    await asyncio.wait({watching})


async def test_changes_are_given_one_for_each_position_with_the_newest_states(
    store: Store,
) -> None:
    committer = build.a_committer(store)
    await build.commit(committer, build.a_write(build.a_column(0, 6)))
    for at in (4, 5):
        await build.commit(committer, build.a_write(decisions=[build.a_decision(at)]))
    ((_, newest),) = await store.streams()
    points, *learned = await store.changes(0, 64)
    assert isinstance(points, Points)
    assert learned == [Learned(*newest)] * 2
    assert await store.changes(1, 1) == (Learned(*newest),)
    await store.trim(1)
    with pytest.raises(Behind):
        await store.changes(0, 64)


async def test_who_comes_back_after_its_lease_ran_out_has_joined_again(store: Store) -> None:
    member = Member("agent/a", "first", "")
    await store.renew(member, -1.0)
    view = await store.renew(member, 30.0)
    assert (view.changed, view.members) == (True, (member,))


async def test_nobody_is_a_fleet_too(store: Store) -> None:
    assert await store.expire() == FleetView(await store.position(), (), changed=False)


async def test_a_lease_that_ran_out_is_removed_and_told(store: Store) -> None:
    member = Member("agent/a", "first", "")
    await store.renew(member, -1.0)
    gone = await store.expire()
    assert (gone.changed, gone.members) == (True, ())
    assert not (await store.expire()).changed


async def test_an_outage_of_ours_costs_no_lease(store: Store) -> None:
    await store.renew(Member("agent/a", "first", ""), -1.0)
    await store.extend(30.0)
    assert len((await store.expire()).members) == 1


async def test_any_version_of_a_state_can_be_folded_again(store: Store) -> None:
    committer = build.a_committer(store)
    await build.commit(committer, build.a_write(build.a_column(0, 4)))
    versions = {}
    for at in range(4, 150):
        write = build.a_write(build.a_column(at, at + 1), decisions=[build.a_decision(at)])
        await build.commit(committer, write)
        ((_, state),) = await store.streams()
        versions[state.version] = state.body
    assert state.version > 256, "the versions must pass a snapshot"
    for version in (7, 255, 256, 257, state.version):
        if version in versions:
            body = await recomputed_states.replay_state(store, state.stream, version)
            assert body == versions[version]
    assert await recomputed_states.check(store) == []


async def test_the_status_counts_rows(store: Store) -> None:
    committer = build.a_committer(store)
    write = build.a_write(build.a_column(0, 8), decisions=[build.a_decision(5)])
    await build.commit(committer, write)
    rows = (await admin.status(store)).rows
    assert (rows["points"], rows["decisions"], rows["verdicts"], rows["events"]) == (8, 1, 1, 2)


async def test_a_decision_that_nothing_can_judge_has_its_one_verdict(store: Store) -> None:
    spec = msgspec.structs.replace(build.SPECIFICATION, transform=Transform.LOG)
    committer = build.a_committer(store)
    decision = build.a_decision(5, specification=spec)
    await build.commit(committer, build.a_write(build.a_column(0, 6), decisions=[decision]))
    last = series.column("test/A", [6 * build.STEP, 7 * build.STEP], [1.0, 0.0])
    (verdict,) = (await build.commit(committer, build.a_write(last))).verdicts
    assert verdict.void
    assert (await store.experiences([decision.experience_id]))[1] == [verdict]
    assert await recomputed_states.check(store) == []
