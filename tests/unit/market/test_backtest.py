"""A backtest decides as live operation does; no decision uses data that is later than itself."""

import msgspec
import numpy as np
import pytest

from midstreamer import reasoning
from midstreamer.agent.searching import Search
from midstreamer.agent.shard_data import Held
from midstreamer.domain import outcome
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Window
from midstreamer.domain.shard import shards_of
from midstreamer.domain.specification import Measure, Specification, Transform
from midstreamer.domain.verdict import Verdict
from midstreamer.market import backtest
from midstreamer.market.backtest import Memory, Points, Walk
from midstreamer.reasoning import forecast
from tests.support import reasoning_builders as make

SPECIFICATION = make.a_specification(window=12, horizon=2, neighbours=8, grid=3, band=0)


def a_universe() -> dict[str, Points]:
    """Return two series with the same times, one of them with a gap and a flat stretch."""
    complete, gapped = make.a_walk(160, seed=1), make.a_walk(160, seed=2)
    values = gapped.values.copy()
    values[40:70] = values[40]
    kept = np.r_[0:90, 97:160]
    return {"u/b": Points(gapped.times[kept], values[kept]), "u/a": complete}


def slow_analogs(
    universe: dict[str, Points], decision: Decision
) -> tuple[list[tuple[float, str, int]], int, int]:
    """Return the analogs of a decision and two counts, computed slowly from the definitions.

    The counts are over all windows that the decision may use, not only over the analogs. The first
    counts the windows followed by a rise, the second those followed by a rise or a fall.
    """
    specification, rows, ups, known = decision.specification, [], 0, 0
    query = np.frombuffer(decision.window)
    for name in sorted(universe):
        count = int((universe[name].times <= decision.time).sum())
        values = universe[name].values
        for first in range(0, count, specification.grid):
            end = first + specification.window - 1
            if end + 2 * specification.horizon > count - 1:
                break
            window = values[first : end + 1]
            if window.std() < 1e-12:
                continue
            change = values[end + specification.horizon] - values[end]
            ups, known = ups + (change > 0), known + (change != 0)
            differences = (window - window.mean()) / window.std() - (
                query - query.mean()
            ) / query.std()
            rows.append((float(np.sqrt((differences**2).sum())), name, first))
    return sorted(rows)[: specification.neighbours], ups, known


def test_analogs_and_counts_are_those_that_the_words_describe() -> None:
    universe = a_universe()
    for event in Walk(universe, SPECIFICATION):
        if not isinstance(event, Decision) or event.index % 13 or event.scale == 0.0:
            continue
        expected, ups, known = slow_analogs(universe, event)
        found = list(event.matches)
        assert [(row.series, row.start) for row in found] == [row[1:] for row in expected]
        assert [row.distance for row in found] == pytest.approx([row[0] for row in expected])
        assert event.arms[0] == pytest.approx((ups + 1) / (known + 2), abs=0.01)


def test_events_come_in_event_time_each_verdict_once_and_when_due() -> None:
    universe = a_universe()
    decided: dict[bytes, Decision] = {}
    judged: set[bytes] = set()
    now = -1
    for event in Walk(universe, SPECIFICATION):
        at = event.due_time if isinstance(event, Verdict) else event.time
        assert at >= now
        now = at
        if isinstance(event, Decision):
            assert event.experience_id not in decided
            decided[event.experience_id] = event
            continue
        decision = decided[event.experience_id]
        own = universe[event.series]
        assert own.times[decision.due_index] == event.due_time
        assert event.change == own.values[decision.due_index] - own.values[decision.index]
        assert event.experience_id not in judged
        judged.add(event.experience_id)
    unjudged = [d for d in decided.values() if d.experience_id not in judged]
    assert all(d.due_index >= len(universe[d.series].times) for d in unjudged)


def test_a_walk_goes_on_where_another_stopped_learning() -> None:
    universe = {"u/a": make.a_season(400)}
    cut = 300 * make.HOUR
    first = Walk(universe, SPECIFICATION, stop=cut)
    for _ in first:
        pass
    later = Walk(universe, SPECIFICATION, start=cut, state=first.state)
    decided = [event for event in later if isinstance(event, Decision)]
    assert decided[0].time == cut
    assert decided[0].state_version == first.state.version
    assert later.state.version > first.state.version


def test_a_record_keeps_all_but_the_analogs() -> None:
    record = backtest.record(Walk({"u/a": make.a_season(200)}, SPECIFICATION))
    assert len(record.decisions) == len(record.verdicts) + SPECIFICATION.horizon
    assert not any(len(decision.matches) for decision in record.decisions)
    assert record.state.version == len(record.decisions) + len(record.verdicts)


def test_common_subsequences_can_be_walked_too() -> None:
    specification = make.a_specification(
        window=12, neighbours=5, grid=3, measure=Measure.LCSS, epsilon=0.3
    )
    record = backtest.record(Walk({"u/a": make.a_season(150)}, specification))
    assert len(record.decisions) > 50


def test_memory_counts_only_what_is_known() -> None:
    points = make.a_walk(100)
    memory = Memory({"u/a": points}, SPECIFICATION)
    for count in (0, 10, 15, 16, 60, 100):
        until = outcome.known_until(count, SPECIFICATION.horizon)
        firsts = outcome.grid_firsts(0, until, SPECIFICATION)
        expected = outcome.tally(outcome.outcomes(points.values, firsts, SPECIFICATION))
        assert memory.counts([count])[:2] == expected


def test_a_universe_without_series_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one series"):
        Walk({}, Specification("u"))


def test_the_walk_gives_signals_where_there_is_a_season() -> None:
    specification = make.a_specification(window=24, horizon=4, neighbours=10, grid=1, target=0.7)
    walk = Walk({"u/a": make.a_season(900)}, specification)
    record = backtest.record(walk)
    hits = {verdict.experience_id: verdict.hit for verdict in record.verdicts}
    hit_signals = [hits[d.experience_id] for d in record.decisions[:-4] if d.emitted]
    assert len(hit_signals) > 200
    assert np.mean(hit_signals) > 0.7
    assert walk.state.licence.held
    assert len(reasoning.encode(walk.state)) < 12_000


def held_shards(universe: dict[str, Points], shard_points: int) -> list[Held]:
    held = []
    for name, points in universe.items():
        for shard in shards_of(name, len(points.times), shard_points):
            filled = Held(shard, shard_points)
            kept = slice(filled.first, filled.stop)
            filled.append(filled.first, points.times[kept], points.values[kept])
            held.append(filled)
    return held


@pytest.mark.parametrize("shard_points", [32, 64, 1000])
def test_an_agent_finds_to_the_bit_what_the_walk_finds(shard_points: int) -> None:
    universe = a_universe()
    decided = [e for e in Walk(universe, SPECIFICATION) if isinstance(e, Decision)]
    held = held_shards(universe, shard_points)
    asked = decided[::17]
    windows = [Window(each.series, each.time, each.window) for each in asked]
    found = Search(SPECIFICATION, held, "auto").answer(windows)
    assert [each.matches for each in found] == [each.matches for each in asked]
    assert [each.index for each in found] == [each.index for each in asked]
    bases = [forecast.climatology(each) for each in found]
    assert bases == [each.arms[0] for each in asked]


def test_a_price_of_zero_bars_the_windows_that_touch_it_live_and_here() -> None:
    universe = {
        name: Points(points.times, np.exp(points.values)) for name, points in a_universe().items()
    }
    universe["u/a"].values[80] = 0.0
    specification = msgspec.structs.replace(SPECIFICATION, transform=Transform.LOG)
    events = list(Walk(universe, specification))
    decided = [event for event in events if isinstance(event, Decision)]
    of_a = {each.index for each in decided if each.series == "u/a"}
    assert {79, 92} <= of_a
    assert of_a.isdisjoint(range(80, 92))
    judged = {event.experience_id for event in events if isinstance(event, Verdict)}
    (due_at_zero,) = (e for e in decided if e.series == "u/a" and e.due_index == 80)
    assert due_at_zero.experience_id not in judged
    asked = [each for each in decided if each.time > due_at_zero.time][::17]
    windows = [Window(each.series, each.time, each.window) for each in asked]
    found = Search(specification, held_shards(universe, 64), "auto").answer(windows)
    assert [each.matches for each in found] == [each.matches for each in asked]
    assert [forecast.climatology(each) for each in found] == [each.arms[0] for each in asked]
