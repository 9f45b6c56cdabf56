"""Parts of a fleet are killed during a replay: all return, and no row is lost, doubled or changed.

The expected decisions come from a replay without kills, by a single agent on a separate store. The
decisions must be equal to the bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import pytest
import pytest_asyncio

from tests.support.processes import (
    POSTGRES,
    Processes,
    Replayed,
    World,
    a_fleet,
    replayed,
    values_of,
)

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

PARTS = ("agent-2", "coordinator", "sync", POSTGRES)
CALM = World("calm", history=120, live=24)
IN_TURN = World("in-turn")
AT_ONCE = World("at-once", history=120, live=24)
ALONE = {part: World(f"without-{part}", history=120, live=24) for part in PARTS}
FIRST_KILL, BETWEEN_KILLS = 8, 12
IN_FLIGHT_S = (0.0, 0.004, 0.011, 0.002)
"""Seconds from the end of a replay step to the kill of a part; the parts get the delays in turn.

The delays are so short that requests are in progress at the time of the kill.
"""


class Reference(NamedTuple):
    """The result of a replay without kills."""

    told: Replayed
    states: dict[str, bytes]


async def states(processes: Processes, world: World) -> dict[str, bytes]:
    stream = world.specification.stream
    rows = await processes.sql("SELECT stream, body FROM states WHERE stream = $1", stream)
    return dict(rows)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    """Replay the data of every `World` on a fleet of one agent, without kills."""
    found = {}
    async with a_fleet(tmp_path_factory.mktemp("undisturbed"), agents=1) as processes:
        for world in (CALM, IN_TURN, AT_ONCE, *ALONE.values()):
            replay = await replayed(processes, world)
            found[world.universe] = Reference(replay, await states(processes, world))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def battered(
    reference: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Processes]:
    """A fleet of three agents on a second store, for tests that kill its parts."""
    async with a_fleet(tmp_path_factory.mktemp("battered")) as processes:
        yield processes


@dataclass
class Killer:
    """Kills each part of a fleet shortly after the step given in ``at``; records process ids."""

    processes: Processes
    at: dict[str, int]
    killed: dict[str, int] = field(default_factory=dict)

    def __call__(self, done: int) -> None:
        for place, (part, step) in enumerate(self.at.items()):
            if step == done:
                delay_s = IN_FLIGHT_S[place % len(IN_FLIGHT_S)]
                asyncio.get_running_loop().call_later(delay_s, self._kill, part, done)

    def _kill(self, part: str, done: int) -> None:
        self.killed[part] = self.processes.kill(part, why=f"after step {done}")


async def with_kills(processes: Processes, world: World, at: dict[str, int]) -> Replayed:
    """Replay a world; kill each part after its step in ``at``; wait until all are back."""
    killer = Killer(processes, at)
    replay = await replayed(processes, world, killer)
    assert killer.killed.keys() == at.keys()
    if "coordinator" in at:  # the replay waits while no coordinator is running
        assert replay.waits
    for part, pid in killer.killed.items():
        await processes.back(part, after=pid)
    await processes.ready()
    return replay


async def check_stored_once(processes: Processes, world: World, replay: Replayed) -> None:
    """Check that PostgreSQL holds all ticks and answered decisions exactly once, unchanged."""
    for name, ticks in values_of(world.columns()).items():
        rows = await processes.sql(
            "SELECT p.time, p.value FROM points p JOIN series s ON s.id = p.series_id"
            " WHERE s.name = $1 ORDER BY p.time", name,
        )  # fmt: skip
        assert [tuple(row) for row in rows] == ticks
    stored = await processes.sql(
        "SELECT experience_id, body FROM decisions WHERE split_part(series, '/', 1) = $1",
        world.universe,
    )
    answered = [(d.experience_id, msgspec.msgpack.encode(d)) for d in replay.decisions]
    assert sorted(tuple(row) for row in stored) == sorted(answered)


async def check_judged_once(processes: Processes, world: World, replay: Replayed) -> None:
    """Check that each decision with a known outcome has exactly one verdict.

    The stream must have learned every decision once and every verdict once.
    """
    points = world.history + world.live
    due = sorted(d.experience_id for d in replay.decisions if 0 <= d.due_index < points)
    rows = await processes.sql(
        "SELECT experience_id, body FROM verdicts WHERE split_part(series, '/', 1) = $1",
        world.universe,
    )
    assert due
    assert sorted(row["experience_id"] for row in rows) == due
    assert {v.experience_id for v in replay.verdicts} <= set(due)
    bodies = {row["experience_id"]: row["body"] for row in rows}
    assert all(msgspec.msgpack.encode(v) == bodies[v.experience_id] for v in replay.verdicts)
    learned = await processes.sql(
        "SELECT kind, experience_id FROM events WHERE stream = $1", world.specification.stream
    )
    assert sorted(row["experience_id"] for row in learned if row["kind"] == "V") == due
    decided = sorted(d.experience_id for d in replay.decisions)
    assert sorted(row["experience_id"] for row in learned if row["kind"] == "D") == decided


async def check_as_undisturbed(
    processes: Processes, world: World, replay: Replayed, expected: Reference
) -> None:
    """Check that the decisions and the learned states equal those of the replay without kills."""
    assert len(replay.decisions) == world.live * world.series
    assert replay.encoded == expected.told.encoded
    assert await states(processes, world) == expected.states


async def check(processes: Processes, world: World, replay: Replayed, expected: Reference) -> None:
    await check_as_undisturbed(processes, world, replay, expected)
    await check_stored_once(processes, world, replay)
    await check_judged_once(processes, world, replay)
    assert await processes.faults() == []


async def test_one_agent_and_three_decide_the_same_to_the_bit(
    reference: dict[str, Reference], battered: Processes
) -> None:
    with battered.explained():
        replay = await replayed(battered, CALM)
        await check(battered, CALM, replay, reference[CALM.universe])


@pytest.mark.parametrize("part", PARTS)
async def test_a_replay_outlives_the_death_of(
    part: str, reference: dict[str, Reference], battered: Processes
) -> None:
    world = ALONE[part]
    with battered.explained():
        replay = await with_kills(battered, world, {part: FIRST_KILL})
        await check(battered, world, replay, reference[world.universe])


async def test_a_replay_outlives_the_death_of_every_part_in_turn(
    reference: dict[str, Reference], battered: Processes
) -> None:
    steps = range(FIRST_KILL, IN_TURN.live, BETWEEN_KILLS)
    with battered.explained():
        replay = await with_kills(battered, IN_TURN, dict(zip(PARTS, steps, strict=False)))
        await check(battered, IN_TURN, replay, reference[IN_TURN.universe])


async def test_a_replay_outlives_the_death_of_every_part_at_once(
    reference: dict[str, Reference], battered: Processes
) -> None:
    with battered.explained():
        replay = await with_kills(battered, AT_ONCE, dict.fromkeys(PARTS, FIRST_KILL))
        await check(battered, AT_ONCE, replay, reference[AT_ONCE.universe])
