"""Requests from outside, by node port and by port-forward, do not fail while pods end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cluster import cluster_guard, commands_here, outside_client, releases
from tests.cluster.conftest import a_namespace
from tests.cluster.load_judgement import Kind
from tests.cluster.outside_client import Desk
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

WAYS = ("quic", "wss")
ROWS = 300
LIMIT_S = Kind.CRASH.limit_s
"""The greatest permitted latency in seconds; `test_disturbances` has the strict limits."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Release]:
    """Install a fleet whose allowlist admits the identities `client/desk-*`."""
    with a_namespace() as kubectl:
        release = Release(kubectl, values={"allowlist": [releases.CLIENTS, "client/desk-*"]})
        release.install()
        release.wait_ready()
        yield release
        release.uninstall()


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest, fleet: Release, tmp_path: Path) -> Iterator[Desk]:
    """Run each test twice: with a `Desk` that uses the node port, and one with port-forward."""
    if request.param == "quic":
        yield Desk(fleet, tmp_path)
        return
    with outside_client.forwarded(fleet) as ways:
        yield Desk(fleet, tmp_path, ways=ways)


def test_commands_and_the_sdk_work_from_outside(desk: Desk, fleet: Release) -> None:
    prices, series = desk.folder / "prices.csv", f"desks/{'wss' if desk.ways else 'quic'}"
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    rows = [f"{begun + timedelta(hours=at):%Y-%m-%dT%H:%M:%SZ},{series},{100 + at % 24}"
            for at in range(ROWS)]  # fmt: skip
    prices.write_text("\n".join(["time,series,value", *rows]), encoding="utf-8")

    replay_output = desk.midstreamer("replay", str(prices), "--window", "16", "--horizon", "2")
    status = desk.midstreamer("status", "--json")

    commands_here.say(replay_output)
    assert f"coordinator/{fleet.namespace}/{fleet.name}-coordinator-0" in status
    assert f'"{series}"' in status
    assert "equal to the bit" in desk.replayed("--stop", "2020-03-01")


def test_no_request_from_outside_fails_while_pods_are_deleted_and_killed(desk: Desk) -> None:
    acts = ("delete", "kill") if cluster_guard.made_here() else ("delete",)

    with desk.load():
        desk.disturb("--acts", *acts)

    desk.report(LIMIT_S)
