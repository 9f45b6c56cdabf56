"""`midstreamer drain` and `status` against real processes, over QUIC with mutual TLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from midstreamer.cli import child_processes
from tests.support.fleet import a_column
from tests.support.processes import Processes, a_fleet, until

pytestmark = pytest.mark.integration

COMMAND_S = 60.0


async def command(processes: Processes, *words: str) -> tuple[int, str, str]:
    """Run a command for this fleet; return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "midstreamer", "--config", str(processes.fleet.client_config), *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(COMMAND_S):
        out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def test_an_operator_drains_an_agent_and_a_client_may_not(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, agents=2) as processes:
        with processes.explained():
            before = processes.pid("agent-1")
            refused = await command(processes, "drain", "agent/a1")
            unknown = await command(processes, "drain", "agent/a9", "--as", "operator/local")
            assert processes.pid("agent-1") == before
            drained = await command(processes, "drain", "agent/a1", "--as", "operator/local")
            assert before is not None
            await processes.back("agent-1", after=before)  # the launcher restarts the drained agent
            code, shown, error = await command(processes, "status", "--json")
    assert (code, error) == (0, "")
    assert refused[0] == unknown[0] == 2
    assert "error[not_granted]" in refused[2]
    assert "the line `client/local  drain` into the allowlist" in refused[2]
    assert "'agent/a9' holds no lease: did you mean agent/a" in unknown[2]
    assert drained[0] == 0, drained
    assert drained[1].splitlines()[0] == "agent/a1 is asked to drain"
    assert "agent/a1 has left the fleet" in drained[1].splitlines()[-1]
    members = {member["name"]: member["evidence"] for member in json.loads(shown)["members"]}
    assert sorted(members) == ["agent/a1", "agent/a2", "coordinator/c1", "sync/s1"]
    assert len({(evidence["bundle"], evidence["judged_by"]) for evidence in members.values()}) == 1
    assert len({evidence["serial"] for evidence in members.values()}) == 4


async def test_a_coordinator_stays_ready_while_all_agents_are_away(tmp_path: Path) -> None:
    async with a_fleet(tmp_path, agents=1) as processes:
        with processes.explained():
            await processes.client.append([a_column(300)])
            coordinator = processes.part("coordinator").health
            await until(
                lambda: child_processes.complete(coordinator), "the coordinator to be complete"
            )
            agent = processes.pid("agent-1")
            assert agent is not None
            # The agent hangs but is alive, so the launcher does not restart it.
            os.kill(agent, signal.SIGSTOP)
            try:
                await until(lambda: _incomplete(coordinator), "the coordinator to miss the agent")
                assert await child_processes.probe(coordinator, "/readyz")
            finally:
                os.kill(agent, signal.SIGCONT)


async def _incomplete(health: str) -> bool:
    return not await child_processes.complete(health)
