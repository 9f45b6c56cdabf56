"""A tick's way through real services in one process, on a memory network and a memory store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstreamer.coordinator import service as coordinator_service
from midstreamer.domain import errors
from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column, Window, window
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import Measure, Specification
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.peer import Peer
from midstreamer.store.store_interface import Run
from midstreamer.telemetry import metrics
from tests.support.fleet import (
    WITHIN_S,
    Fleet,
    a_column,
    a_specification,
    a_universe,
    a_window,
    append,
    eventually,
    match,
    running,
)
from tests.support.metric_values import shown

pytestmark = pytest.mark.integration


def part(points: Column, start: int, stop: int) -> Column:
    times, values = points.times[8 * start : 8 * stop], points.values[8 * start : 8 * stop]
    return Column(points.series, times, values)


def columns(universe: list[Column], start: int, stop: int) -> list[Column]:
    return [part(points, start, stop) for points in universe]


def windows(universe: list[Column], end: int) -> list[Window]:
    return [a_window(points, end, 16) for points in universe]


def encoded(decisions: tuple[Decision, ...]) -> bytes:
    return msgspec.msgpack.encode(decisions)


async def search(client: Peer, specification: Specification, *asked: Window) -> frames.Matched:
    """Match windows without recording the decisions."""
    request = frames.Match(specification=specification, windows=asked, record=False)
    answer = await client.ask(request, budget_s=WITHIN_S)
    assert isinstance(answer, frames.Matched)
    return answer


async def replay(
    client: Peer, universe: list[Column], first: int, last: int
) -> tuple[bytes, list[bytes]]:
    """Append ticks and match windows at each time; return decisions and the verdicts' ids."""
    specification = a_specification()
    decisions: list[Decision] = []
    verdicts: list[bytes] = []
    done = await append(client, *columns(universe, 0, first))
    for end in range(first, last):
        done = await append(client, *columns(universe, end, end + 1))
        verdicts += [verdict.experience_id for verdict in done.verdicts]
        matched = await match(
            client, specification, *windows(universe, end), at_least=done.position
        )
        decisions += matched.decisions
    return encoded(tuple(decisions)), verdicts


async def test_ticks_become_decisions_and_decisions_are_settled() -> None:
    universe, specification = a_universe(3, 320), a_specification()
    async with running() as fleet:
        client = await fleet.client()
        done = await append(client, *columns(universe, 0, 300))
        assert (done.stored, done.repeated) == (900, 0)
        matched = await match(
            client, specification, *windows(universe, 299), at_least=done.position
        )
        assert [decision.index for decision in matched.decisions] == [299, 299, 299]
        assert all(len(decision.matches) == 10 for decision in matched.decisions)
        again = await match(client, specification, *windows(universe, 299))
        assert (again.repeated, again.decisions) == (3, matched.decisions)
        settled = await append(client, *columns(universe, 300, 303))
        assert {verdict.experience_id for verdict in settled.verdicts} == {
            decision.experience_id for decision in matched.decisions
        }
        repeated = await append(client, *columns(universe, 290, 303))
        assert (repeated.stored, repeated.repeated) == (0, 39)


async def test_one_agent_or_three_and_any_shards_give_equal_decisions() -> None:
    universe = a_universe(3, 340)
    results = []
    for agents, points in ((("a1",), 4096), (("a1", "a2", "a3"), 64)):
        async with running(agents=agents, shard_points=points) as fleet:
            results.append(await replay(await fleet.client(), universe, 300, 330))
    assert results[0] == results[1]
    assert len(results[0][1]) == 3 * 27


@pytest.mark.parametrize("stalled", [True, False])
async def test_an_agent_that_dies_or_stalls_in_mid_search_is_replaced(
    stalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    universe, specification = a_universe(3, 300), a_specification()
    async with running() as fleet:
        client = await fleet.client()
        await append(client, *universe)
        expected = await search(client, specification, *windows(universe, 299))
        reached, never = asyncio.Event(), asyncio.Event()

        async def stall(*given: object) -> None:
            reached.set()
            await never.wait()

        monkeypatch.setattr(fleet.agent("a1"), "_compute", stall)
        asking = asyncio.ensure_future(search(client, specification, *windows(universe, 299)))
        await reached.wait()
        if not stalled:
            await fleet.stop("a1")
        found = await asking
        assert encoded(found.decisions) == encoded(expected.decisions)


async def test_the_fleet_goes_on_with_other_agents() -> None:
    universe, specification = a_universe(3, 300), a_specification()
    async with running() as fleet:
        client = await fleet.client()
        await append(client, *universe)
        expected = await search(client, specification, *windows(universe, 299))
        await fleet.stop("a1")
        await fleet.start_agent("a4", engine="wasm")
        await fleet.stop("a2")
        await fleet.settled(agents=2)
        found = await search(client, specification, *windows(universe, 299))
        assert encoded(found.decisions) == encoded(expected.decisions)
        every = set(fleet.agent("a3").holdings) | set(fleet.agent("a4").holdings)
        assert len(every) == 3 * 2
        assert fleet.agent("a3").holdings == fleet.agent("a4").holdings


async def test_agents_drop_what_two_others_hold() -> None:
    async with running(agents=("a1", "a2"), shard_points=64) as fleet:
        client = await fleet.client()
        await append(client, *a_universe(3, 300))
        assert len(fleet.agent("a1").holdings) == 15
        await fleet.start_agent("a3")
        await fleet.settled(agents=3)
        await eventually(
            lambda: sum(len(fleet.agent(name).holdings) for name in ("a1", "a2", "a3")) == 30,
            lambda: {name: len(fleet.agent(name).holdings) for name in ("a1", "a2", "a3")},
        )


async def test_sync_may_be_away_for_a_while() -> None:
    universe, specification = a_universe(2, 320), a_specification()
    async with running() as fleet:
        client = await fleet.client()
        done = await append(client, *columns(universe, 0, 300))
        # This search makes the coordinator load the learning state of the stream.
        await search(client, specification, *windows(universe, 298))
        await fleet.stop("s1")
        waiting = asyncio.ensure_future(append(client, *columns(universe, 300, 301)))
        # Once the coordinator knows the learning state, a search needs no sync.
        found = await search(client, specification, *windows(universe, 299))
        assert len(found.decisions) == 2
        await fleet.start_sync()
        after = await waiting
        assert after.stored + after.repeated == 2
        assert after.position > done.position
        matched = await match(
            client, specification, *windows(universe, 300), at_least=after.position
        )
        assert [decision.index for decision in matched.decisions] == [300, 300]


async def test_a_window_of_no_series_is_decided_and_never_settled() -> None:
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        await append(client, *a_universe(2, 300))
        loose = window(a_column(16, seed=7).values_array(), time=2**63 - 1)
        matched = await match(client, a_specification(), loose)
        (decision,) = matched.decisions
        assert not decision.settles
        assert len(decision.matches) == 10


async def test_lcss_goes_the_whole_way() -> None:
    universe = a_universe(2, 300)
    async with running(agents=("a1", "a2")) as fleet:
        client = await fleet.client()
        await append(client, *universe)
        specification = a_specification(measure=Measure.LCSS, epsilon=0.5)
        matched = await match(client, specification, *windows(universe, 299))
        assert (matched.decisions[0].matches.distance_array() <= 1.0).all()


async def refused(client: Peer, request: frames.Request, budget_s: float = 2.0) -> Exception:
    with pytest.raises(errors.MidstreamerError) as caught:
        await client.ask(request, budget_s=budget_s)
    return caught.value


async def test_what_cannot_be_answered_is_refused_and_the_fleet_lives() -> None:
    universe, specification = a_universe(1, 20), a_specification()
    (asked,) = windows(universe, 19)
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        nothing = await refused(client, frames.Match(specification=specification, windows=(asked,)))
        assert isinstance(nothing, errors.UnknownSeries)
        done = await append(client, *columns(universe, 0, 15))
        longer = frames.Match(specification=specification, windows=(asked,), at_least=done.position)
        assert "has 15 points" in str(await refused(client, longer))
        stale = await refused(client, frames.Append(columns=(a_column(2, series="walk/00"),)))
        assert isinstance(stale, errors.Conflict)
        assert (await append(client, *columns(universe, 15, 20))).stored == 5


async def test_only_what_is_stored_of_a_series_is_recorded_under_its_name() -> None:
    universe, specification = a_universe(2, 300), a_specification()
    (ahead, asked) = windows(universe, 299)[0], windows(universe, 298)[0]
    values = asked.array().copy()
    values[3] += 1.0
    other = window(values, series=asked.series, time=asked.time)
    async with running(shard_points=64) as fleet:
        client = await fleet.client()
        await append(client, *columns(universe, 0, 299))
        early = await refused(client, frames.Match(specification=specification, windows=(ahead,)))
        assert isinstance(early, errors.BadInput)
        assert "Append the tick first" in str(early)
        found = await search(client, specification, ahead)
        assert [decision.settles for decision in found.decisions] == [False]
        wrong = await refused(client, frames.Match(specification=specification, windows=(other,)))
        assert isinstance(wrong, errors.BadInput)
        assert f"value 3 is {values[3]}, {asked.array()[3]} is stored" in str(wrong)
        # The refused Match stored no decision, so this Match is not taken for a repetition.
        matched = await match(client, specification, asked)
        assert (matched.repeated, matched.decisions[0].window) == (0, asked.values)


async def test_a_position_that_never_comes_is_told_within_the_deadline() -> None:
    universe = a_universe(1, 100)
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        done = await append(client, *universe)
        request = frames.Match(
            specification=a_specification(),
            windows=tuple(windows(universe, 99)),
            at_least=done.position + 1000,
        )
        error = await refused(client, request, budget_s=0.3)
        assert isinstance(error, errors.Behind)
        assert error.retry_after_s > 0


async def test_who_waits_for_a_position_keeps_nobody_from_a_search() -> None:
    universe = a_universe(1, 100)
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        done = await append(client, *universe)
        few = Admission(2, line=0, what="waits", setting="waits_max", retry_after_s=0.1)
        fleet.coordinator()._follower._waits = few
        request = frames.Match(
            specification=a_specification(),
            windows=tuple(windows(universe, 99)),
            at_least=done.position + 1000,
        )
        waiting = [asyncio.ensure_future(refused(client, request, 1.0)) for _ in range(2)]
        found = await search(client, a_specification(), *request.windows)
        assert len(found.decisions) == 1
        refusals = await asyncio.gather(*waiting)
        assert sorted(type(error).__name__ for error in refusals) == ["Behind", "Overloaded"]


async def test_without_agents_the_deadline_says_which_shard_nobody_holds() -> None:
    universe = a_universe(1, 100)
    async with running(agents=()) as fleet:
        client = await fleet.client()
        await append(client, *universe)
        request = frames.Match(
            specification=a_specification(), windows=tuple(windows(universe, 99))
        )
        error = await refused(client, request, budget_s=0.3)
        assert isinstance(error, errors.DeadlineExceeded)
        assert "no connected agent holds walk/00 shard 0" in str(error)
        assert "held by no connected agent" in fleet.coordinator().complete_reasons()[0]


async def test_a_survey_is_answered_also_while_sync_is_away() -> None:
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        await append(client, *a_universe(2, 100))
        live = await client.ask(frames.Survey(), budget_s=2.0)
        await fleet.stop("s1")
        remembered = await client.ask(frames.Survey(), budget_s=1.0)
        assert isinstance(live, frames.Surveyed)
        assert isinstance(remembered, frames.Surveyed)
        assert live.series == remembered.series
        names = {member.name for member in live.members}
        assert names == {"agent/a1", "coordinator/c1", "sync/s1"}


async def test_agents_hold_and_tell_what_coordinators_know_whatever_happens() -> None:
    async with running(agents=("a1", "a2"), shard_points=64) as fleet:
        client = await fleet.client()
        await append(client, *a_universe(3, 300))
        await fleet.start_agent("a3")
        await fleet.start_coordinator("c2")
        await fleet.settled(agents=3)
        await fleet.stop("a1")
        await fleet.settled(agents=2)

        def known(coordinator: str) -> dict[str, list[Shard]]:
            held = fleet.coordinator(coordinator)._dispatcher._core._holders.agents
            return {name: sorted(agent.shards) for name, agent in held.items()}

        def there() -> dict[str, list[Shard]]:
            return {f"agent/{name}": list(fleet.agent(name).holdings) for name in ("a2", "a3")}

        await eventually(lambda: known("c1") == known("c2") == there(), lambda: known("c2"))
        assert all(len(shards) == 15 for shards in there().values())


async def test_a_coordinator_that_knows_an_agent_wrongly_is_told_everything_again() -> None:
    async with running(agents=("a1",), shard_points=64) as fleet:
        client = await fleet.client()
        await append(client, *a_universe(2, 300))
        core = fleet.coordinator()._dispatcher._core
        await eventually(lambda: len(core._holders.agents["agent/a1"].shards) == 10)
        agent = core._holders.agents["agent/a1"]
        core._holders.drop(agent, [Shard("walk/00", 2)])
        assert not core.held(Shard("walk/00", 2))
        await eventually(lambda: core.held(Shard("walk/00", 2)))
        # The entry of the agent is new: the agent reported all its shards again on a new link.
        assert core._holders.agents["agent/a1"] is not agent


async def test_experiences_are_looked_up() -> None:
    universe = a_universe(1, 100)
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        await append(client, *universe)
        matched = await match(client, a_specification(), *windows(universe, 99))
        ids = tuple(decision.experience_id for decision in matched.decisions)
        found = await client.ask(frames.Lookup(experience_ids=ids), budget_s=2.0)
        assert isinstance(found, frames.Experiences)
        assert found.decisions == matched.decisions


async def test_a_lookup_of_nothing_tells_the_position_though_sync_is_away() -> None:
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        written = await append(client, *a_universe(1, 10))
        await fleet.stop("s1")
        found = await client.ask(frames.Lookup(experience_ids=()), budget_s=1.0)
        assert isinstance(found, frames.Experiences)
        assert (found.decisions, found.position) == ((), written.position)


# --- levels of acknowledgement ------------------------------------------------------------------


async def stored(fleet: Fleet, series: str = "walk/00") -> list[float]:
    try:
        return list((await fleet.store.load([Run(series, 0, 1000)], 1000))[0].values)
    except errors.UnknownSeries:
        return []


async def test_received_is_answered_while_sync_is_away_and_stored_later() -> None:
    async with running(agents=()) as fleet:
        client = await fleet.client()
        await fleet.stop("s1")
        request = frames.Append(columns=tuple(a_universe(1, 10)), level=Level.RECEIVED)
        answer = await client.ask(request, budget_s=2.0)
        assert isinstance(answer, frames.Appended)
        assert answer.level is Level.RECEIVED
        assert await stored(fleet) == []
        await fleet.start_sync()
        await eventually(lambda: fleet.coordinator()._writer.depth == 0)
        assert len(await stored(fleet)) == 10


async def test_spooled_without_a_spool_is_refused_and_says_how_to_have_one() -> None:
    async with running(agents=()) as fleet:
        client = await fleet.client()
        request = frames.Append(columns=tuple(a_universe(1, 10)), level=Level.SPOOLED)
        assert "coordinator.spool_dir" in str(await refused(client, request))


async def test_spooled_outlives_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_service, "FLUSH_S", 0.0)
    async with running(agents=(), spool_dir=tmp_path) as fleet:
        client = await fleet.client()
        await fleet.stop("s1")
        (points,) = a_universe(1, 20)
        for start in (0, 10):
            request = frames.Append(columns=(part(points, start, start + 10),), level=Level.SPOOLED)
            answer = await client.ask(request, budget_s=2.0)
            assert isinstance(answer, frames.Appended)
        await fleet.stop("c1")
        await fleet.start_sync()
        await fleet.start_coordinator("c1", spool_dir=tmp_path)
        await eventually(lambda: list(tmp_path.glob("spool-*")) == [])
        assert await stored(fleet) == list(points.values_array())


async def test_agents_tell_how_many_threads_they_have_and_how_long_these_were_busy() -> None:
    universe = a_universe(2, 300)
    before_s = shown(metrics.KERNEL_BUSY_S)
    async with running(agents=("a1",)) as fleet:
        client = await fleet.client()
        await append(client, *universe)
        await search(client, a_specification(), *windows(universe, 250))
    assert shown(metrics.KERNEL_THREADS) == 1
    assert shown(metrics.KERNEL_BUSY_S) > before_s
