"""A database of the previous version, with open decisions, continues under this version."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest

from midstreamer import reasoning
from midstreamer.cli import db_check_command
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.store import row_conversion
from midstreamer.store.audit import Audit, Report
from midstreamer.store.audit_rows import PostgresReader
from midstreamer.store.postgres import PostgresStore
from tests.support import commit_program, previous_version
from tests.support import store_builders as build

pytestmark = pytest.mark.integration
STORY_S = 180
OPEN = """
    SELECT d.body FROM decisions d
    WHERE NOT EXISTS (SELECT FROM verdicts v WHERE v.experience_id = d.experience_id)"""
DERIVED = {
    "decisions": "SELECT experience_id, body FROM decisions ORDER BY 1",
    "verdicts": "SELECT experience_id, body FROM verdicts ORDER BY 1",
    "states": "SELECT stream, specification::text, version, body FROM states ORDER BY 1",
    "snapshots": "SELECT stream, version, body FROM snapshots ORDER BY 1, 2",
    "events": "SELECT stream, version, kind, experience_id FROM events ORDER BY 1, 2",
    "specifications": "SELECT digest, stream, body::text FROM specifications ORDER BY 1",
    "feed": "SELECT position, body FROM feed ORDER BY 1",
}


class Databases(NamedTuple):
    """A database with open decisions, and two copies of it.

    The previous version ran the remaining steps of `commit_program` on the copy `before`, and this
    version ran them on the copy `now`.
    """

    broken_off: str
    before: str
    now: str


@pytest.fixture(scope="module")
def databases() -> Databases:
    server = build.the_server()
    begun = asyncio.run(_empty(asyncio.run(server.start())))
    _before(begun, 0, commit_program.BREAK)
    before_dsn, now_dsn = (asyncio.run(_copied(begun)) for _ in range(2))
    _before(before_dsn, commit_program.BREAK, commit_program.END)
    asyncio.run(commit_program.commit(now_dsn, commit_program.BREAK, commit_program.END))
    return Databases(begun, before_dsn, now_dsn)


async def _empty(dsn: str) -> str:
    return await build.a_database(dsn)


async def _copied(dsn: str) -> str:
    """Copy a database to which nothing is connected; return the DSN of the copy."""
    name = urlsplit(dsn).path.strip("/")
    copy = f"{name}_{os.urandom(4).hex()}"
    connection = await asyncpg.connect(urlunsplit(urlsplit(dsn)._replace(path="/postgres")))
    await connection.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
    await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{copy}"))


def _before(dsn: str, first: int, last: int) -> None:
    """Run `commit_program` with the previous version, to commit its steps `first` to `last - 1`."""
    ended = subprocess.run(
        [sys.executable, "-P", commit_program.__file__, dsn, str(first), str(last)],
        timeout=STORY_S,
        capture_output=True,
        text=True,
        env=os.environ | previous_version.environment(),
    )
    assert ended.returncode == 0, ended.stderr


async def _fetched(dsn: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _audited(dsn: str) -> Report:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            return await Audit(PostgresReader(connection), db_check_command.rules()).run()
    finally:
        await connection.close()


async def test_decisions_were_open_at_the_upgrade_in_every_stream(databases: Databases) -> None:
    decisions = [
        row_conversion.decision(row[0]) for row in await _fetched(databases.broken_off, OPEN)
    ]
    horizons = sum(each.horizon for each in commit_program.SPECIFICATIONS)
    assert len(decisions) == commit_program.SERIES * horizons
    assert len({each.specification.stream for each in decisions}) == len(
        commit_program.SPECIFICATIONS
    )


@pytest.mark.parametrize("table", DERIVED)
async def test_both_versions_leave_the_same_rows_to_the_bit(
    databases: Databases, table: str
) -> None:
    by_before = await _fetched(databases.before, DERIVED[table])
    by_now = await _fetched(databases.now, DERIVED[table])
    assert by_now == by_before
    assert by_now


async def test_each_decision_that_was_open_got_its_verdict(databases: Databases) -> None:
    was_open = {
        row_conversion.decision(row[0]).experience_id
        for row in await _fetched(databases.broken_off, OPEN)
    }
    verdicts = [
        row_conversion.verdict(row[1])
        for row in await _fetched(databases.now, DERIVED["verdicts"])
        if row[0] in was_open
    ]
    assert {verdict.experience_id for verdict in verdicts} == was_open
    void = await _fetched(databases.now, "SELECT count(*) FROM verdicts WHERE winkler = 0")
    # One price is zero and has no logarithm. Two of the three streams use logarithms, so each of
    # the two has one void verdict.
    assert void == [(2,)]


async def test_the_check_of_all_that_is_stored_finds_nothing(databases: Databases) -> None:
    report = await _audited(databases.now)
    assert (report.kept, report.foreign, report.unlearned) == ([], 0, 0)


async def test_two_versions_that_take_turns_leave_what_one_leaves(databases: Databases) -> None:
    dsn = await _copied(databases.broken_off)
    turns = [*range(commit_program.BREAK, commit_program.END, 10), commit_program.END]
    for number, (first, last) in enumerate(itertools.pairwise(turns)):
        if number % 2:
            _before(dsn, first, last)
        else:
            await commit_program.commit(dsn, first, last)
    for query in DERIVED.values():
        assert await _fetched(dsn, query) == await _fetched(databases.before, query)


# --- tests with decisions that another version wrote ----------------------------------------------


async def _rewritten(dsn: str, fields: dict[str, Any], where: str) -> str:
    """Copy a database, and change fields in the bodies of decisions; return the copy's DSN."""
    copy = await _copied(dsn)
    connection = await asyncpg.connect(copy)
    for key, body in await connection.fetch(f"SELECT experience_id, body FROM decisions {where}"):
        fields_of_body = msgspec.msgpack.decode(body)
        fields_of_body["specification"] |= fields.get("specification", {})
        fields_of_body |= {name: value for name, value in fields.items() if name != "specification"}
        await connection.execute(
            "UPDATE decisions SET body = $2 WHERE experience_id = $1",
            key, msgspec.msgpack.encode(fields_of_body),
        )  # fmt: skip
    await connection.close()
    return copy


async def _ticks_only(dsn: str) -> list[Any]:
    """Commit the ticks of the remaining steps of `commit_program`, without their decisions.

    Return the stored decisions that have no verdict afterwards.
    """
    store = PostgresStore(dsn)
    await store.open()
    for write in commit_program.part(commit_program.BREAK, commit_program.END):
        if write.columns:
            await build.commit(build.a_committer(store), write)
    await store.close()
    return await _fetched(dsn, OPEN)


LAST_TIME = f"time = {commit_program.BREAK * commit_program.HOUR}"
"""SQL condition for the open decisions with the latest time."""


async def _with_a_newer_field(databases: Databases) -> str:
    """Copy a database, and add a field that this version does not know to some open decisions."""
    newer = {"specification": {"trim": 0.5}}
    where = f"WHERE {LAST_TIME} AND series = 'story/00'"
    return await _rewritten(databases.broken_off, newer, where)


async def test_open_decisions_that_cannot_be_read_stay_open_and_stop_no_ticks(
    databases: Databases,
) -> None:
    dsn = await _with_a_newer_field(databases)
    left = await _ticks_only(dsn)
    assert len(left) == len(commit_program.SPECIFICATIONS)
    assert all(b"trim" in row[0] for row in left)
    assert (await _fetched(dsn, "SELECT min(count) FROM series")) == [(commit_program.END,)]


async def test_a_decision_that_cannot_be_read_is_refused_by_name_when_it_is_asked_for(
    databases: Databases,
) -> None:
    store = PostgresStore(await _with_a_newer_field(databases))
    await store.open()
    decisions = [
        decision
        for write in commit_program.part(commit_program.BREAK - 1, commit_program.BREAK)
        for decision in write.decisions
        if decision.series == "story/00"
    ]
    with pytest.raises(BadInput, match="this version cannot decode it .*`trim`"):
        await store.experiences([decision.experience_id for decision in decisions])
    with pytest.raises(BadInput, match="this version cannot decode it .*`trim`"):
        await build.commit(build.a_committer(store), build.a_write(decisions=decisions))
    await store.close()


async def test_open_decisions_settle_with_their_own_arms_under_a_version_with_one_arm_more(
    databases: Databases,
) -> None:
    dsn = await _copied(databases.broken_off)
    store = PostgresStore(dsn)
    await store.open()
    committer = build.a_committer(store)
    for write in commit_program.part(commit_program.BREAK, commit_program.END):
        decisions = tuple(_of_the_next_version(decision) for decision in write.decisions)
        await build.commit(committer, msgspec.structs.replace(write, decisions=decisions))
    states = [reasoning.decode(state.body) for _, state in await store.streams()]
    await store.close()
    report = await _audited(dsn)
    assert {len(state.losses) // 8 // state.specification.horizon for state in states} == {5}
    assert (report.kept, report.unlearned, report.foreign > 100) == ([], 0, True)


def _of_the_next_version(decision: Decision) -> Decision:
    """Return the decision as a later version, which has a fifth arm, would write it."""
    arms = (*decision.arms, 0.5)
    return msgspec.structs.replace(decision, arms=arms, library="reasoning/next")


async def test_a_verdict_that_cannot_be_learned_stands_and_stops_no_ticks(
    databases: Databases,
) -> None:
    # Remove an arm from one stored decision of each stream. Then the stream cannot learn the
    # verdict on this decision.
    where = f"WHERE {LAST_TIME} AND series = 'story/01'"
    dsn = await _rewritten(databases.broken_off, {"arms": (0.5, 0.5, 0.5)}, where)
    assert await _ticks_only(dsn) == []
    assert (await _fetched(dsn, "SELECT min(count) FROM series")) == [(commit_program.END,)]
    unlearned = """
        SELECT count(*) FROM verdicts v WHERE NOT EXISTS (
            SELECT FROM events e WHERE e.experience_id = v.experience_id AND e.kind = 'V')"""
    assert (await _fetched(dsn, unlearned)) == [(len(commit_program.SPECIFICATIONS),)]


async def test_the_check_accepts_a_verdict_without_an_event_only_where_it_cannot_be_learned(
    databases: Databases,
) -> None:
    forgotten, missing = await _copied(databases.now), await _copied(databases.now)
    stream = commit_program.SPECIFICATIONS[1].stream
    # In the first copy of the database, delete all that the stream has learned from its decisions.
    # Then the stream cannot learn the verdicts on these decisions.
    for table in ("events", "snapshots", "states"):
        await _executed(forgotten, f"DELETE FROM {table} WHERE stream = '{stream}'")
    report = await _audited(forgotten)
    assert report.unlearned > 100
    assert not [finding for finding in report.kept if str(finding).startswith("verdict")]
    # In the second copy of the database, delete only the event of one verdict. The stream can learn
    # this verdict, so the check must report that the event is missing.
    newest = f"SELECT max(version) FROM events WHERE stream = '{stream}' AND kind = 'V'"
    await _executed(missing, f"DELETE FROM events WHERE version = ({newest})")
    assert (await _audited(missing)).total > 0


async def _executed(dsn: str, query: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(query)
    await connection.close()
