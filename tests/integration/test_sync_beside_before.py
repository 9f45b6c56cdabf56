"""A sync of the previous version and one of this version share a database."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import Any, NamedTuple

import pytest

from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Changes, Member, Points, Renew, Tail
from midstreamer.runtime.peer import Peer
from midstreamer.store.postgres import PostgresStore
from tests.support import previous_version, recomputed_states, sync_program
from tests.support import store_builders as build

pytestmark = pytest.mark.integration

COUNT = 40
POLLED_S = 0.5
"""Maximum median delay, in seconds, until a commit of the previous version's sync reaches a
follower at this version's sync.

The limit allows for one poll and a busy machine. In the previous version, followers waited 1 to 2 s
for a commit of another sync.
"""


class Shared(NamedTuple):
    """What happened while both versions shared a database.

    A follower reads the change feed of one sync.
    """

    before: dict[str, Any]
    """What `sync_program` printed: what the follower at the previous version's sync received."""
    now: dict[str, list[int]]
    """What the follower at this version's sync received: the starts of columns, by series."""
    late_s: list[float]
    """Seconds until a commit of the previous version's sync reached the other sync's follower."""
    faults: list[str]
    """The errors that the checks of the stored data found."""


@pytest.fixture(scope="module")
def shared() -> Shared:
    previous_version.unpacked()
    server = build.the_server()
    return asyncio.run(_share(server.dsn))


async def _share(dsn: str) -> Shared:
    dsn = await build.a_database(dsn)
    store = PostgresStore(dsn)
    async with build.a_sync(store, name="now", lease_s=sync_program.LEASE_S) as fleet:
        reader, writer = await fleet.dial(Kind.AGENT, "a1"), await fleet.dial()
        await reader.ask(Renew(member=Member("", "", "", evidence={"stage": "serving"})))
        beside = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", sync_program.__file__, dsn, "test/before", str(COUNT)),
            env=os.environ | previous_version.environment(), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        starts: dict[str, list[int]] = {}
        heard_s: dict[int, float] = {}
        following = asyncio.create_task(_follow(reader, starts, heard_s))
        for at in range(COUNT):
            await writer.ask(sync_program.a_write(sync_program.OTHER, at))
            await asyncio.sleep(0.05)
        output, _ = await asyncio.wait_for(beside.communicate(), 60)
        position = await store.position()
        while max(heard_s, default=0) < position:  # noqa: ASYNC110 - it signals no event
            await asyncio.sleep(0.01)
        following.cancel()
        faults = [*await recomputed_states.check(store), *await store.faults()]
    saw = json.loads(output.splitlines()[-1])  # the lines before the last are log lines
    late_s = [heard_s[int(at)] - told_s for at, told_s in saw["told_s"].items()]
    return Shared(saw, starts, late_s, faults)


async def _follow(peer: Peer, starts: dict[str, list[int]], heard_s: dict[int, float]) -> None:
    position = 0
    async for page in peer.follow(Tail(after=0, states=False)):
        _note(page, starts)
        for at in range(position + 1, page.position + 1):
            heard_s[at] = time.time()
        position = page.position


def _note(page: Changes, starts: dict[str, list[int]]) -> None:
    for change in page.changes:
        if isinstance(change, Points):
            starts.setdefault(change.column.series, []).append(change.start)


WHOLE = {"test/before": list(range(COUNT)), sync_program.OTHER: list(range(COUNT))}


def test_followers_of_both_see_every_row_once(shared: Shared) -> None:
    assert shared.now == WHOLE
    assert shared.before["starts"] == WHOLE


def test_what_the_version_before_commits_is_found_by_polling(shared: Shared) -> None:
    assert statistics.median(shared.late_s) < POLLED_S, shared.late_s


def test_leases_written_by_either_are_known_to_both(shared: Shared) -> None:
    assert set(shared.before["members"]) == {"agent/a1", "coordinator/before", "sync/now"}


def test_nothing_stored_breaks_a_promise(shared: Shared) -> None:
    assert shared.faults == []
