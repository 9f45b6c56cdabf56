"""The examples run as they are, against a real fleet of processes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.processes import WITHIN_S, a_fleet

EXAMPLES = Path(__file__).parents[2] / "examples"
IN_A_CLUSTER = {"in-cluster/app.py": "tests/cluster/full/test_example_through_restarts.py"}
"""Examples that need a cluster, and the tests that run them there."""


async def run(example: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / example), *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.fleet
async def test_outcomes_of_a_season_are_forecast_better_than_by_chance(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, agents=2) as processes:
        code, output = await run(
            "outcomes/app.py",
            *("--addresses", processes.fleet.coordinator),
            *("--directory", str(tmp_path / "state" / "certs")),
        )

    assert code == 0, output
    assert "40 decisions" in output
    found = re.search(r"(\d+) outcomes are known: (\d+) forecasts", output)
    assert found, output
    known, hits = map(int, found.groups())
    assert known == 36
    assert hits > known / 2


async def test_an_example_says_in_one_line_why_it_cannot_connect(tmp_path: Path) -> None:
    code, output = await run("outcomes/app.py", "--directory", str(tmp_path))

    assert code == 1
    assert output.startswith("error[")
    assert len(output.splitlines()) == 1


def test_every_example_is_run_by_a_test() -> None:
    found = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert found == {"outcomes/app.py", *IN_A_CLUSTER}
    for test in IN_A_CLUSTER.values():
        assert (EXAMPLES.parent / test).is_file()
