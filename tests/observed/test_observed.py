"""Prometheus scrapes every process of a fleet, and shows that each works, or that it is gone."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from midstreamer.telemetry import metrics
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace, Prometheus

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not prometheus.is_built(), reason=f"Prometheus is not built: {prometheus.BUILD}"
    ),
]

PACE = Pace(scrape_s=1.0, evaluation_s=1.0)
WITHIN_S = 120.0
COUNTS = {"agent": 3.0, "client": 1.0, "coordinator": 2.0, "operator": 2.0, "postgres": 1.0}
COUNTS["sync"] = 2.0


async def until(asked: Prometheus, expression: str) -> None:
    """Wait until an expression returns a sample; the failure message names unscraped targets."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await asked.query(expression):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
    except TimeoutError:
        problems = await asked.target_problems()
        raise AssertionError(
            f"no sample in {WITHIN_S:g} s: {expression}; not scraped: {problems}"
        ) from None


def rate(family: object, **labels: str) -> str:
    """Return a PromQL expression that is true while a counter or histogram grows."""
    chosen = ",".join(f'{label}="{value}"' for label, value in labels.items())
    named = metrics.name(family)  # type: ignore[arg-type]
    series = named if named.endswith("_total") else f"{named}_count"
    return f"sum(rate({series}{{{chosen}}}[10s])) > 0"


async def test_each_process_is_seen_at_work_and_missed_when_it_is_gone(tmp_path: Path) -> None:
    data = tmp_path / "prometheus"
    async with (
        fleet.observed(tmp_path / "fleet", news=print) as seen,
        prometheus.running(data, seen.targets(), pace=PACE) as asked,
    ):
        await asked.all_up()

        found = await asked.query('count by (component) (up{namespace="local"})')
        assert {sample.labels["component"]: sample.value for sample in found} == COUNTS
        for expression in (
            rate(metrics.DECISIONS, component="coordinator"),
            rate(metrics.HANDSHAKES, component="coordinator", result="not_allowed"),
            rate(metrics.REFUSED_FRAMES, component="coordinator", frame="Search", kind="client"),
            rate(metrics.CALL_LATENCY_S, component="client", result="stale_tick"),
            rate(metrics.SIGNING_REQUESTS, component="operator", result="signed"),
            f"{metrics.name(metrics.POSTGRES_CONNECTIONS)} > 0",
            f"sum({metrics.name(metrics.OPERATOR_LEADER)}) == 1",
        ):
            await until(asked, expression)

        await seen.end("a2", signal.SIGKILL)
        await until(asked, 'up{pod="a2"} == 0')
        await seen.begin("a2")
        await until(asked, 'up{pod="a2"} == 1')
