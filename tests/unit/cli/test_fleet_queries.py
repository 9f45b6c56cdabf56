"""The commands that send requests to a fleet, run against a fleet in this process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer

from midstreamer.cli import fleet_queries, query_flags
from midstreamer.client.api import AsyncClient
from midstreamer.client.matcher import AsyncAdaptivePatternMatcher
from midstreamer.console.replay_watch import Watch
from midstreamer.domain.decision import Reason
from midstreamer.domain.errors import BadInput
from midstreamer.market import feeds, replay
from tests.support import fleet
from tests.support.client_builders import QUICK, a_carrier, a_csv

CONTEXT = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
SPECIFICATION = fleet.a_specification(window=16, horizon=3)


def a_file(tmp_path: Path, points: int = 100) -> Path:
    columns = fleet.a_universe(2, points)
    lines = [
        f"{time},{column.series},{value!r}"
        for column in columns
        for time, value in zip(column.times_array(), column.values_array().tolist(), strict=True)
    ]
    return a_csv(tmp_path / "walk.csv", *lines)


@asynccontextmanager
async def a_fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """Yield a client of a running fleet, which the commands use instead of their own client."""
    async with fleet.running(agents=("a1",)) as running:
        client = AsyncClient(a_carrier(running.network), ["c1:1"], deadline_s=10.0, policy=QUICK)

        @asynccontextmanager
        async def ours(context: typer.Context) -> AsyncIterator[AsyncClient]:
            yield client

        monkeypatch.setattr(fleet_queries, "_client", ours)
        async with client:
            yield client


async def test_a_file_is_replayed_then_matched_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = feeds.read(a_file(tmp_path))
    async with a_fleet(monkeypatch) as client:
        plan = replay.ReplayPlan(SPECIFICATION, table)
        await fleet_queries._replay(CONTEXT, plan, Watch("walk"), "walk.csv")
        assert re.search(r"decisions +170", capsys.readouterr().out)
        await fleet_queries._match(CONTEXT, table, SPECIFICATION, "")
        shown = capsys.readouterr().out
        assert shown.count("P(rise)") == 2
        assert shown.count("walk/0") >= 2 + 2 * 5
        assert "stale" not in shown
        await fleet_queries._status(CONTEXT)
        assert "walk/01  100" in capsys.readouterr().out
        before = (await client.survey()).decisions
    assert before == 170


async def test_a_window_of_no_series_is_matched_with_all_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = feeds.read(a_file(tmp_path))
    async with a_fleet(monkeypatch) as client:
        await client.append(table.columns())
        matcher = AsyncAdaptivePatternMatcher(client, SPECIFICATION)
        assert await matcher.match_pattern(table.value[:16]) is None
        decision = matcher.last_decision
        again = await matcher.match_pattern(table.value[:16])
        assert again is None
        assert matcher.last_decision == decision
        surveyed = await client.survey()
    assert decision is not None
    assert not decision.settles
    assert len(decision.matches) == SPECIFICATION.neighbours
    assert decision.reason is Reason.WARMING_UP
    assert (surveyed.decisions, surveyed.verdicts) == (1, 0)


async def test_a_file_shorter_than_the_window_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = feeds.read(a_file(tmp_path, points=10))
    async with a_fleet(monkeypatch):
        with pytest.raises(BadInput, match="walk/00 has 10 ticks, fewer than the 16 of a window"):
            await fleet_queries._match(CONTEXT, table, SPECIFICATION, "")


def test_the_patience_that_the_help_shows_is_the_one_of_a_replay() -> None:
    assert query_flags.PATIENCE_S == replay.PATIENCE_S
