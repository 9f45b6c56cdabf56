"""``midstreamer run`` as users run it: real processes, QUIC, PostgreSQL; no process is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from midstreamer.market.report import Report
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres_leftovers import processes_in
from tests.support import fleet
from tests.support.client_builders import a_csv

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

POINTS, SERIES = 160, 2
LIVE = SERIES * POINTS // 2
WITHIN_S = 60.0


class Place:
    """A state folder and a small data file, and ways to run ``midstreamer run`` with both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        lines = [
            f"{time},{column.series},{value!r}"
            for column in fleet.a_universe(SERIES, POINTS)
            for time, value in zip(
                column.times_array().tolist(), column.values_array().tolist(), strict=True
            )
        ]
        self.data = a_csv(folder / "walk.csv", *lines)
        self.report = folder / "report.json"
        self.output_path = folder / "output.txt"

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "midstreamer", "run", "--data", str(self.data)]
        command += ["--state-dir", str(self.state), "--json", str(self.report), "--agents", "2"]
        command += ["--window", "16", "--horizon", "3", *more]
        with self.output_path.open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder)

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        return process.wait(timeout=120)

    def output(self) -> str:
        return self.output_path.read_text(encoding="utf-8")

    def figures(self) -> Report:
        return msgspec.json.decode(self.report.read_bytes(), type=Report)

    def decisions_so_far(self) -> int:
        found = re.findall(r"([\d,]+) decisions:", self.output())
        return int(found[-1].replace(",", "")) if found else 0

    def left(self) -> list[int]:
        """Return the ids of all processes that use this state folder."""
        sign = f"MIDSTREAMER_SECURITY__DIRECTORY={self.state}".encode()
        mine = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        mine = [pid for pid in mine if sign in _environment(pid)]
        return mine + list(processes_in(EmbeddedServer(self.state / "postgres").data))

    def children(self, verb: str) -> list[int]:
        return [pid for pid in self.left() if f"\0{verb}\0".encode() in _command(pid)]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def eventually(holds: Callable[[], bool], explain: Callable[[], object]) -> None:
    """Wait until a condition about other processes holds; fail after `WITHIN_S` seconds."""
    give_up = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < give_up, explain()
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    opened = Place(tmp_path)
    yield opened
    for pid in opened.left():
        os.kill(pid, signal.SIGKILL)
    asyncio.run(EmbeddedServer(opened.state / "postgres").erase())


def test_a_run_ends_with_its_figures_and_leaves_no_process(place: Place) -> None:
    assert place.finish(place.start()) == 0, place.output()
    assert place.left() == []
    figures = place.figures()
    (part,) = figures.parts
    assert (part.history_ticks, part.ticks, part.decisions) == (LIVE, LIVE, LIVE)
    assert part.verdicts == LIVE - 3 * SERIES
    assert figures.kept.decisions == LIVE
    assert not figures.interrupted
    assert part.match is not None
    assert part.match.count == POINTS // 2
    for part_of_it in ("P(rise)", "like 0", "verdict on", "precision", "coverage", "certificates"):
        assert part_of_it in place.output()
    assert place.state.stat().st_mode & 0o777 == 0o700


def midstreamer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "midstreamer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_run_is_alone_in_its_folder_stops_on_ctrl_c_and_goes_on_later(place: Place) -> None:
    process = place.start("--rate", "4")
    eventually(lambda: place.decisions_so_far() >= 4, place.output)
    other = midstreamer("run", "--data", str(place.data), "--state-dir", str(place.state))
    assert other.returncode == 2
    assert re.match(r"error\[config\]: state folder .* is in use by another", other.stderr)
    status = midstreamer("--config", str(place.state / "client.toml"), "status")
    assert status.returncode == 0, status.stderr
    assert "walk/00" in status.stdout
    assert "agent/a2" in status.stdout

    process.send_signal(signal.SIGINT)
    assert place.finish(process) == 130, place.output()
    assert place.left() == []
    stopped = place.figures()
    assert stopped.interrupted
    assert 4 <= stopped.parts[0].decisions < LIVE
    assert "the same command continues from here" in place.output()

    assert place.finish(place.start()) == 0, place.output()
    (part,) = place.figures().parts
    assert part.decisions == LIVE == place.figures().kept.decisions
    assert part.decisions_repeated >= stopped.parts[0].decisions
    assert part.verdicts == LIVE - 3 * SERIES


def test_a_killed_agent_is_started_again_and_nothing_outlives_a_killed_launcher(
    place: Place,
) -> None:
    process = place.start("--rate", "4")
    eventually(lambda: place.decisions_so_far() >= 4, place.output)
    os.kill(place.children("agent")[0], signal.SIGKILL)
    again = re.compile(r"agent-\d ended by SIGKILL; restarting it \(1 of 10\)")
    eventually(lambda: bool(again.search(place.output())), place.output)
    before = place.decisions_so_far()
    eventually(lambda: place.decisions_so_far() > before + 2, place.output)
    assert len(place.left()) > 4

    process.kill()
    process.wait(timeout=10)
    eventually(lambda: place.left() == [], place.left)
