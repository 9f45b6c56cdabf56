"""Ten thousand series with long names, over QUIC and PostgreSQL: time, memory and load speed.

The figures are printed (`pytest -s`). The limits are wide, because machines differ.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from midstreamer.cli import peer_credentials
from midstreamer.cli.local_fleet import TRUST_DOMAIN
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column, column
from midstreamer.domain.specification import Specification, Transform
from midstreamer.protocol.frames import Load, Loaded, Run
from midstreamer.runtime import config
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from tests.support.processes import Processes, a_fleet

pytestmark = pytest.mark.fleet

MINUTE = 60_000_000
SERIES = 10_000
POINTS = 16
AT_ONCE = 500
PARTS = ("sync", "coordinator", "agent-1", "agent-2", "agent-3")
READY_S = 60.0
FULL_SERIES, FULL_POINTS = 64, 8192
"""Number of series, and of points in each. One series fills four shards of the default size."""
LOAD_S = 5.0


WINDOW = [1.0, 2.0, 1.5, 3.0]
SPECIFICATION = Specification(
    "many",
    window=len(WINDOW),
    horizon=1,
    neighbours=5,
    band=1,
    grid=1,
    transform=Transform.IDENTITY,
)


def tell(figures: str) -> None:
    print(f"\n{figures}", end="")  # noqa: T201 - the file prints its figures


def name_of(number: int) -> str:
    return f"many/{'n' * 89}{number:06d}"


def short(first: int) -> list[Column]:
    times = np.arange(POINTS, dtype=np.int64) * MINUTE
    values = np.random.default_rng(first).normal(size=(AT_ONCE, POINTS)) + 50.0
    return [column(name_of(first + place), times, row) for place, row in enumerate(values)]


def resident_mb(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def memory(fleet: Processes) -> dict[str, int]:
    return {name: resident_mb(fleet.pid(name)) for name in PARTS}


async def restarted_s(fleet: Processes, name: str) -> float:
    began_s = time.monotonic()
    await fleet.back(name, after=fleet.kill(name))
    return time.monotonic() - began_s


@pytest.mark.timeout(300)
async def test_ten_thousand_series_of_long_names_are_ready_and_small(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, agents=3) as fleet:
        with fleet.explained():
            empty, restart_s = memory(fleet), await restarted_s(fleet, "agent-1")
            began_s = time.monotonic()
            for first in range(0, SERIES, AT_ONCE):
                await fleet.client.append(short(first))
            await fleet.ready()
            stored_s = time.monotonic() - began_s
            survey = await fleet.client.survey()
            assert [series.series for series in survey.series] == [
                name_of(at) for at in range(SERIES)
            ]
            assert survey.ticks == SERIES * POINTS
            coordinator_s = await restarted_s(fleet, "coordinator")
            agent_s = await restarted_s(fleet, "agent-1")
            await fleet.ready()
            full = memory(fleet)
            decision = await fleet.client.match("", 2**62, WINDOW, SPECIFICATION, record=False)
            assert len(decision.matches) == 5
    tell(
        f"{SERIES:,} series of {POINTS} points stored and held in {stored_s:.1f} s; ready again:"
        f" coordinator {coordinator_s:.1f} s, agent {agent_s:.1f} s (empty {restart_s:.1f} s)"
    )
    tell("MB resident: " + ", ".join(f"{n} {empty[n]} -> {full[n]}" for n in PARTS))
    assert max(stored_s, coordinator_s, agent_s) < READY_S
    assert all(full[name] < empty[name] + 200 for name in PARTS)


async def an_agent(fleet: Processes) -> Peer:
    """Connect to sync with an agent's certificate."""
    me = peer_credentials.named("agent/a1", TRUST_DOMAIN)
    security = config.SecuritySettings(directory=fleet.fleet.state.certs, trust_domain=TRUST_DOMAIN)
    carrier = peer_credentials.carrier(me, security, config.LimitSettings())
    address = fleet.part("sync").environment["MIDSTREAMER_SYNC__LISTEN"]
    return await peers.dial(carrier, address, expect=Kind.SYNC)


async def points_of(peer: Peer, jobs: Iterator[tuple[Run, ...]]) -> int:
    """Load the runs of one job after another; return the number of points loaded."""
    points = 0
    for left in jobs:
        runs = left
        while runs:
            answer = await peer.ask(Load(runs=runs), budget_s=30)
            assert isinstance(answer, Loaded)
            points += sum(len(part.column) for part in answer.parts)
            runs = runs[len(answer.parts) :]
    return points


async def test_full_shards_are_loaded_at_twenty_megabytes_a_second(tmp_path: Path) -> None:
    times = np.arange(FULL_POINTS, dtype=np.int64) * MINUTE
    runs = [Run(f"full/{number:02d}", 0, FULL_POINTS) for number in range(FULL_SERIES)]
    async with a_fleet(tmp_path, agents=1) as fleet:
        for number, run in enumerate(runs):
            values = np.random.default_rng(number).normal(size=FULL_POINTS)
            await fleet.client.append([column(run.series, times, values)])
        await fleet.ready()
        peer = await an_agent(fleet)
        end_s = time.monotonic() + LOAD_S

        def jobs() -> Iterator[tuple[Run, ...]]:
            while time.monotonic() < end_s:
                for first in range(0, FULL_SERIES, 8):
                    yield tuple(runs[first : first + 8])

        began_s, before_s = time.monotonic(), cpu_s(fleet.pid("sync"))
        loaded = await asyncio.gather(*(points_of(peer, jobs()) for _ in range(4)))
        took_s, used_s = time.monotonic() - began_s, cpu_s(fleet.pid("sync")) - before_s
        await peer.close()
    megabytes = 16 * sum(loaded) / 1e6
    tell(
        f"full shards: {megabytes / took_s:.1f} MB/s; sync used {used_s / took_s:.2f} of a core:"
        f" {megabytes / used_s:.0f} MB for each second of it"
    )
    # On a busy machine sync gets little CPU time. So it is enough if sync loads 20 MB for each
    # second of CPU time that it gets.
    assert megabytes / took_s >= 20 or megabytes / used_s >= 20


def cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().split()
    return (int(fields[13]) + int(fields[14])) / 100
