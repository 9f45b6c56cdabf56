"""The load driver, its audit and the replay as processes, against a fleet of processes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from tests.cluster import events
from tests.cluster.events import Event, Kind
from tests.support import processes
from tests.support.client import a_csv
from tests.support.processes import Processes, World

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

RATES = ("--matches-per-s", "20", "--appends-per-s", "8")
"""A part of the usual load: other tests run beside this one."""
WITHIN_S = 90.0
LINES = 3
"""Seconds of calm before something is done."""
TOP = Path(__file__).parents[2]


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    output: str
    error: str


async def started(module: str, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.cluster.{module}", *words,
        cwd=TOP,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def done(module: str, *words: str) -> Ended:
    process = await started(module, *words)
    try:
        async with asyncio.timeout(WITHIN_S):
            output, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), error.decode())


def client_words(running: Processes) -> list[str]:
    fleet = running.fleet
    return ["--addresses", fleet.coordinator, "--certs", str(fleet.state.certs)]


@asynccontextmanager
async def driven(running: Processes, file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A load that has begun; at the end it is told to stop, and has ended by itself."""
    words = [*client_words(running), "--write", str(file), *RATES]
    process = await started("load", *words)
    try:
        async with asyncio.timeout(WITHIN_S):
            await told(process, "ready")
            yield process
            process.send_signal(signal.SIGTERM)
            _, error = await process.communicate()
        assert process.returncode == 0, error.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(process: asyncio.subprocess.Process, word: str, count: int = 1) -> None:
    """Wait for so many lines with a word."""
    assert process.stdout is not None
    while count:
        said = await process.stdout.readline()
        assert said, (await process.communicate())[1].decode()
        count -= word in json.loads(said)


async def test_a_killed_agent_fails_no_request_and_what_is_lost_from_the_store_is_found(
    tmp_path: Path,
) -> None:
    file, table = tmp_path / "load.jsonl", tmp_path / "events.jsonl"
    async with processes.a_fleet(tmp_path, agents=2) as running:
        async with driven(running, file) as load:
            await told(load, "second", LINES)
            from_s = time.monotonic()
            await running.back("agent-1", after=running.kill("agent-1"))
            await told(load, "second", LINES)
            killed = Event("kill agent-1", Kind.CRASH, from_s, time.monotonic())
        table.write_text(events.line(killed))
        words = ("--load", str(file), "--dsn", running.fleet.server.dsn)

        whole = await done("report", *words, "--events", str(table), "--faults")
        connection = await asyncpg.connect(running.fleet.server.dsn)
        try:
            await connection.execute(
                "DELETE FROM points WHERE (series_id, index)"
                " IN (SELECT series_id, index FROM points LIMIT 1)"
            )
        finally:
            await connection.close()
        one_less = await done("report", *words)

    assert whole.code == 0, whole
    assert "each is stored exactly once" in whole.output
    assert "kill agent-1" in whole.output
    assert one_less.code == 1, one_less
    assert one_less.output.count("does not hold: lost: tick ") == 1


async def test_a_load_that_reaches_nobody_says_so_without_a_traceback(tmp_path: Path) -> None:
    async with processes.a_fleet(tmp_path, agents=1) as running:
        words = ["--certs", str(running.fleet.state.certs), "--write", str(tmp_path / "load.jsonl")]
        ended = await done("load", "--addresses", "127.0.0.1:1", *words, "--deadline-s", "1")

    assert ended.code == 2
    assert "load: error[deadline]: append had no answer" in ended.error
    assert "Traceback" not in ended.error


async def test_a_replay_to_two_agents_equals_one_to_a_fleet_of_its_own_to_the_bit(
    tmp_path: Path,
) -> None:
    world = World("walk", history=120, live=120, series=2)
    rows = [
        f"{moment},{one.series},{value!r}"
        for one in world.columns()
        for moment, value in zip(
            one.times_array().tolist(), one.values_array().tolist(), strict=True
        )
    ]
    data = ["--data", str(a_csv(tmp_path / "walk.csv", *rows))]
    there, here = tmp_path / "there.jsonl", tmp_path / "here.jsonl"
    async with processes.a_fleet(tmp_path, agents=2) as running:
        words = [*client_words(running), *data]
        first = await done("replay", "fleet", *words, "--write", str(there))
        again = await done("replay", "fleet", *words, "--write", str(tmp_path / "again.jsonl"))
    alone = await done("replay", "local", *data, "--write", str(here))

    compared = await done("replay", "compare", str(here), str(there))

    assert [first.code, again.code, alone.code] == [0, 0, 0], (first, again, alone)
    assert (tmp_path / "again.jsonl").read_bytes() == there.read_bytes()
    assert compared.code == 0, compared
    assert "equal to the bit" in compared.output
    assert int(compared.output.split()[0]) > 100
