"""A short rolling restart of a fleet under load; ``make rolling`` runs the long one.

Each restart changes a process from the previous version to this one, or back. Only in the test over
WebSocket, every process keeps this version.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rolling import drive, plan

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

RATE = 0.2
"""The load as a share of the usual load: small, because other tests run at the same time."""
CALM_S = 1.0


async def restarted(folder: Path, *members: str, kill: bool) -> drive.Result:
    chosen = plan.make(1, rounds=1, members=members)
    options = drive.Options(RATE, kill=kill, calm_s=CALM_S)
    return await drive.run(chosen, options, folder / "state", print)


async def test_no_request_fails_while_processes_are_replaced_by_the_other_version(
    tmp_path: Path,
) -> None:
    result = await restarted(tmp_path, "s1", "c1", "a1", kill=False)
    assert result.broken == []
    assert result.decisions > 0


async def test_no_request_fails_over_websocket_either(tmp_path: Path) -> None:
    chosen = plan.make(1, rounds=1, members=("s1", "c1", "a1"), alone=True)
    options = drive.Options(RATE, calm_s=CALM_S, carrier="wss")
    result = await drive.run(chosen, options, tmp_path / "state", print)
    assert result.broken == []
    assert result.decisions > 0


async def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    result = await restarted(tmp_path, "s2", "c2", kill=True)
    assert result.broken == []
    assert result.decisions > 0
