"""`midstreamer db check` finds every changed value, except in columns that it cannot derive."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from midstreamer.cli import db_check_command, main
from midstreamer.cli.state_folder import StateFolder
from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column as Ticks
from midstreamer.domain.series import window
from midstreamer.domain.specification import Measure, Transform
from midstreamer.protocol.frames import Member
from midstreamer.store import queries, row_conversion
from midstreamer.store.audit import EVER, Audit, Progress, Report
from midstreamer.store.audit_rows import PostgresReader
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres import PostgresStore
from tests.support import changed_values, fleet
from tests.support import store_builders as build
from tests.support.changed_values import Column

pytestmark = pytest.mark.integration
GUIDE = Path(__file__).parents[2] / "docs/how-to/database.md"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
SERIES, HISTORY, LIVE, SECOND_EVERY = 3, 200, 48, 8

UNTOLD = {
    "members": "current leases: each renewal overwrites them, and nothing is derived from them",
    "migrations.applied": "PostgreSQL's clock when a migration ran",
    "writers": "sync's counts of each writer's numbers, which only that process knows",
}
"""Tables and columns that cannot be derived from other stored values, each with why not."""


# fixtures: a database with the data that a fleet has written


@pytest.fixture(scope="module")
def dsn() -> str:
    return asyncio.run(_filled(build.the_server()))


async def _filled(server: EmbeddedServer) -> str:
    dsn = await build.a_database(await server.start())
    store = PostgresStore(dsn)
    await store.open()
    async with fleet.running(agents=("a1", "a2"), store=store) as running:
        await _replayed(running)
    await store.open()
    await store.renew(Member("agent/a1", "x", "host:1", 1, 2, {"engine": "numba"}), 3600.0)
    await store.close()
    return dsn


async def _replayed(running: fleet.Fleet) -> None:
    """Fill two streams of one universe: for each time append ticks, then send matches."""
    client, universe = await running.client(), fleet.a_universe(SERIES, HISTORY + LIVE)
    first = fleet.a_specification()
    second = fleet.a_specification(window=12, horizon=2, transform=Transform.LOG)
    done = await fleet.append(client, *(_part(series, 0, HISTORY) for series in universe))
    for end in range(HISTORY, HISTORY + LIVE):
        done = await fleet.append(client, *(_part(series, end, end + 1) for series in universe))
        for specification in (first, second) if end % SECOND_EVERY == 0 else (first,):
            asked = [fleet.a_window(series, end, specification.window) for series in universe]
            await fleet.match(client, specification, *asked, at_least=done.position)


def _part(series: Ticks, start: int, stop: int) -> Ticks:
    bytes_of = slice(8 * start, 8 * stop)
    return Ticks(series.series, series.times[bytes_of], series.values[bytes_of])


@contextlib.asynccontextmanager
async def changed(dsn: str) -> AsyncIterator[Any]:
    """A connection to the database; everything that it changes is rolled back at the end."""
    connection = await asyncpg.connect(dsn)
    try:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()
    finally:
        await connection.close()


async def audited(connection: Any, *, since: int = EVER) -> Report:
    return await Audit(PostgresReader(connection), db_check_command.rules(), since=since).run()


def words(report: Report) -> str:
    return "\n".join(str(finding) for finding in report.kept)


# --- nothing changed ------------------------------------------------------------------------------


async def test_nothing_contradicts_in_a_store_that_a_fleet_filled(dsn: str) -> None:
    async with changed(dsn) as connection:
        report = await audited(connection)
    assert report.kept == []
    assert report.checked["decisions"] == SERIES * (LIVE + LIVE // SECOND_EVERY)
    assert report.checked["events"] > 256  # so a snapshot exists: one follows every 256 events
    assert report.foreign == 0


async def test_nothing_contradicts_where_ticks_come_late_or_have_no_logarithm(dsn: str) -> None:
    dsn = await build.a_database(dsn)
    store = PostgresStore(dsn)
    await store.open()
    async with fleet.running(agents=("a1",), store=store) as running:
        await _unusual(running, fleet.a_universe(3, 260))
    async with changed(dsn) as connection:
        report = await audited(connection)
        void = await connection.fetchval("SELECT count(*) FROM verdicts WHERE winkler = 0")
        unsettled = await connection.fetchval("SELECT count(*) FROM decisions WHERE index < 0")
    assert report.kept == []
    assert (void, unsettled) == (1, 10)


async def _unusual(running: fleet.Fleet, universe: list[Ticks]) -> None:
    """Fill two streams with unusual data: a price of zero, and a series appended late.

    When the late series is appended, decisions about the other series exist.
    """
    client, late = await running.client(), universe.pop()
    ways = (
        fleet.a_specification(transform=Transform.LOG),
        fleet.a_specification(measure=Measure.LCSS, epsilon=0.25),
    )
    first, *_ = universe
    values = first.values_array().copy()
    values[230] = 0.0
    universe[0] = Ticks(first.series, first.times, values.tobytes())
    await fleet.append(client, *(_part(series, 0, 200) for series in universe))
    for end in range(200, 260):
        if end == 240:
            await fleet.append(client, late)
        done = await fleet.append(client, *(_part(series, end, end + 1) for series in universe))
        for way in ways if end in (207, 219, 227, 247, 259) else ():
            asked = [fleet.a_window(series, end, 16) for series in universe]
            stranger = window(asked[0].array() + 0.5)
            await fleet.match(client, way, *asked, stranger, at_least=done.position)


# --- one value changed ----------------------------------------------------------------------------


async def test_every_column_that_is_changed_is_noticed_or_named_as_untold(dsn: str) -> None:
    async with changed(dsn) as connection:
        every = await changed_values.every_column(connection)
        silent = {
            str(each): found for each in every if (found := await _unnoticed(connection, each))
        }
    assert silent.keys() == {str(each) for each in every if _named(each)}
    assert len(every) - len(silent) > 50


def _tells(row: Any) -> bool:
    """Return whether the check can notice a change of this row.

    It notices a change if other stored values depend on the row. No stored value depends on a row
    of ``feed`` with a list of members (`Joined`), so a change of such a row is not noticed.
    """
    return "position" not in row or "body" not in row or b"Joined" not in row["body"]


def _named(column: Column) -> bool:
    return column.table in UNTOLD or str(column) in UNTOLD


async def _unnoticed(connection: Any, column: Column) -> list[object]:
    """Change a column, one row after another; return the new values that the check did not find.

    Each change is undone before the next.
    """
    silent: list[object] = []
    places = await changed_values.rows_of(connection, column.table, _tells)
    assert places, f"the test stores nothing in {column.table}: so a change there tests nothing"
    variants = len(changed_values.others(column, places[0][column.name]))
    for at in range(1 if _named(column) else variants):
        row = places[at % len(places)]
        values = changed_values.others(column, row[column.name])
        value = values[at % len(values)]
        transaction = connection.transaction()
        await transaction.start()
        if await changed_values.change(connection, column, row["ctid"], value):
            silent += [] if await noticed(connection) else [value]
        await transaction.rollback()
    return silent


async def noticed(connection: Any) -> bool:
    """Return whether the check finds anything; to save time it stops at the first finding."""

    def stop(_: Progress) -> None:
        if audit.report.total:
            raise _FoundError

    audit = Audit(PostgresReader(connection), db_check_command.rules(), progress=stop)
    try:
        return (await audit.run()).total > 0
    except _FoundError:
        return True


class _FoundError(Exception):
    """Raised to stop the check at its first finding."""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("points SET value = value + 1e-9 WHERE index = 230", "(points walk/00/230)"),
        ("verdicts SET hit = NOT hit", "hit is True, derived False (body)"),
        ("decisions SET confidence = 0.875", "confidence is 0.875, derived 0."),
    ],
)
async def test_a_changed_value_is_named_with_what_is_derived(
    dsn: str, change: str, named: str
) -> None:
    async with changed(dsn) as connection:
        await connection.execute("DELETE FROM feed WHERE position < (SELECT position FROM head)")
        await connection.execute(f"UPDATE {change}")
        report = await audited(connection)
    assert named in words(report)


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": 0.75, "confidence": 0.75},
        {"low": -1.0, "high": 1.0},
        {"state_version": 3},
        {"rank": 0.25},
        {"judged": False},
        {"arms": (0.5, 0.5, 0.5, 0.5)},
    ],
)
async def test_a_decision_changed_in_body_and_columns_alike_is_not_what_is_decided_again(
    dsn: str, changes: dict[str, Any]
) -> None:
    async with changed(dsn) as connection:
        body = await connection.fetchval("SELECT body FROM decisions ORDER BY time DESC LIMIT 1")
        await _replaced(
            connection, msgspec.structs.replace(row_conversion.decision(body), **changes)
        )
        report = await audited(connection)
    assert f"decisions {row_conversion.decision(body).experience_id.hex()}: body." in words(report)


async def test_a_match_with_another_distance_or_outcome_is_not_what_the_ticks_give(
    dsn: str,
) -> None:
    for name in ("distance", "outcome", "time"):
        async with changed(dsn) as connection:
            body = await connection.fetchval("SELECT body FROM decisions ORDER BY time LIMIT 1")
            decision = row_conversion.decision(body)
            kept = bytearray(getattr(decision.matches, name))
            kept[-8] ^= 1  # one bit in the value of the last analog, the farthest
            matches = msgspec.structs.replace(decision.matches, **{name: bytes(kept)})
            await _replaced(connection, msgspec.structs.replace(decision, matches=matches))
            assert f"body.matches.{name}[9]" in words(await audited(connection))


async def _replaced(connection: Any, decision: Decision) -> None:
    """Replace the stored decision that has the same id; fill all columns as sync does."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(
        "DELETE FROM decisions WHERE experience_id = $1", decision.experience_id
    )
    sql = queries.load()
    columns = sql.bind("add_decisions", row_conversion.decisions([decision]))
    await connection.execute(sql["add_decisions"], *columns)


async def test_a_verdict_changed_in_body_and_columns_alike_is_not_what_the_ticks_give(
    dsn: str,
) -> None:
    async with changed(dsn) as connection:
        body = await connection.fetchval("SELECT body FROM verdicts ORDER BY due_time LIMIT 1")
        verdict = row_conversion.verdict(body)
        verdict = msgspec.structs.replace(verdict, hit=not verdict.hit)
        await connection.execute(
            "DELETE FROM verdicts WHERE experience_id = $1", verdict.experience_id
        )
        sql = queries.load()
        columns = sql.bind("add_verdicts", row_conversion.verdicts([verdict]))
        await connection.execute(sql["add_verdicts"], *columns)
        assert "body.hit" in words(await audited(connection))


async def test_a_row_that_is_missing_is_noticed(dsn: str) -> None:
    silent = []
    for table in ("points", "series", "specifications", "decisions", "verdicts", "states",
                  "snapshots", "events"):  # fmt: skip
        async with changed(dsn) as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            (row, *_) = await changed_values.rows_of(connection, table)
            await connection.execute(f"DELETE FROM {table} WHERE ctid = $1", row["ctid"])
            silent += [] if await noticed(connection) else [table]
    assert silent == []


# --- the option `since` ---------------------------------------------------------------------------


async def test_since_looks_at_what_is_later_and_at_nothing_earlier(dsn: str) -> None:
    middle = (HISTORY + LIVE // 2) * fleet.MINUTE
    change = "UPDATE decisions SET confidence = 2 WHERE time = $1"
    async with changed(dsn) as connection:
        await connection.execute(change, middle - fleet.MINUTE)
        later, full = await audited(connection, since=middle), await audited(connection)
    assert (later.total, full.total) == (0, SERIES)
    assert later.checked["decisions"] < full.checked["decisions"]
    async with changed(dsn) as connection:
        await connection.execute(change, middle)
        assert (await audited(connection, since=middle)).total >= SERIES


async def test_more_findings_than_are_kept_are_counted(dsn: str) -> None:
    async with changed(dsn) as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE points SET series_id = series_id + 100")
        report = await audited(connection)
    assert report.total > len(report.kept) == 1000


def test_the_guide_names_what_nothing_can_tell() -> None:
    guide = GUIDE.read_text()
    assert [name for name in UNTOLD if f"`{name}`" not in guide] == []


# --- the command ----------------------------------------------------------------------------------


def test_the_command_ends_with_0_only_when_nothing_contradicts(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "check.json"
    command = ["db", "check", "--dsn", dsn, "--json", str(report)]
    assert main.execute(command) == 0
    assert "no stored value differs from its recomputed value" in capsys.readouterr().out
    asyncio.run(_executed(dsn, "UPDATE verdicts SET hit = NOT hit WHERE brier > 0"))
    try:
        assert main.execute(command) == 1
    finally:
        asyncio.run(_executed(dsn, "UPDATE verdicts SET hit = NOT hit WHERE brier > 0"))
    written = capsys.readouterr()
    assert "hit is " in written.out
    assert "stored values differ from the recomputed ones" in written.err
    assert json.loads(report.read_text())["first"][0]["column"] == "hit"


async def _executed(dsn: str, query: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(query)
    await connection.close()


def test_the_server_of_a_state_folder_is_used_where_it_runs_and_else_started_and_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = EmbeddedServer(StateFolder(tmp_path).postgres)
    command = ["db", "check", "--state-dir", str(tmp_path)]
    try:
        asyncio.run(server.start())
        assert main.execute(command) == 0
        assert server.pid is not None
        asyncio.run(server.stop())
        assert main.execute(command) == 0
        assert not server.runs_elsewhere
    finally:
        asyncio.run(server.erase())
    assert capsys.readouterr().out.count("no stored value differs from its recomputed value") == 2


def test_a_folder_without_a_database_is_named_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.execute(["db", "check", "--state-dir", str(tmp_path / "none")]) == 2
    assert "has no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_an_interrupt_ends_a_check_that_waits(dsn: str) -> None:
    async with changed(dsn) as connection:
        await connection.execute("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "midstreamer", "db", "check", "--dsn", dsn),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                while not await connection.fetchval(WAITING):  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, error = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in error
