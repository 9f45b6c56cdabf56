"""The test helper `tests.support.prometheus` works with a real Prometheus."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import prometheus
from tests.support.prometheus import Pace, PrometheusFailed, Target

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not prometheus.is_built(), reason=f"Prometheus is not built: {prometheus.BUILD}"
    ),
]

FAST = Pace(scrape_s=0.2, evaluation_s=0.2)
OPEN_METRICS = {"Content-Type": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
RULES = """
groups:
  - name: claims
    rules:
      - record: component:counted:sum
        expr: sum by (component) (counted_total)
      - alert: Counted
        expr: counted_total > 2
        labels: {severity: page}
        annotations: {summary: "{{ $labels.component }} counted {{ $value }}"}
"""


@asynccontextmanager
async def counting() -> AsyncIterator[str]:
    """An endpoint whose counter grows by one with each scrape; yields its address."""
    looks = 0

    async def metrics(_: web.Request) -> web.Response:
        nonlocal looks
        looks += 1
        text = f'# TYPE counted counter\ncounted_total {looks} # {{trace_id="t{looks}"}} 1\n# EOF\n'
        return web.Response(body=text.encode(), headers=OPEN_METRICS)

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def seen_within(
    seen: prometheus.Prometheus, expression: str, *, within_s: float = 20.0
) -> list[prometheus.Sample]:
    """Wait until an expression returns samples; return them."""
    async with asyncio.timeout(within_s):
        while not (found := await seen.query(expression)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    return found


async def test_a_target_is_scraped_with_the_labels_that_panels_select_by(tmp_path: Path) -> None:
    async with counting() as address:
        target = Target(address, component="sync", pod="4711")
        async with prometheus.running(tmp_path, [target], pace=FAST) as seen:
            await seen.all_up()

            (found,) = await seen.query("counted_total")

            assert found.labels == {
                "__name__": "counted_total",
                "job": "midstreamer",
                "namespace": "local",
                "component": "sync",
                "pod": "4711",
                "instance": address,
            }
            assert found.value >= 1
            assert await seen.query("scalar(vector(7))") == [prometheus.Sample({}, 7.0)]
            assert await seen.label_values("component", "counted_total") == ["sync"]


async def test_a_range_and_the_exemplars_in_it_are_told(tmp_path: Path) -> None:
    async with counting() as address:
        begin_s = time.time()
        target = Target(address, component="sync", pod="1")
        async with prometheus.running(tmp_path, [target], pace=FAST) as seen:
            await seen_within(seen, "counted_total > 3")
            end_s = time.time()

            (series,) = await seen.query_range(
                "counted_total", begin_s=begin_s, end_s=end_s, step_s=0.2
            )
            exemplars = await seen.exemplars("counted_total", begin_s=begin_s, end_s=end_s)

    assert series.values == tuple(sorted(series.values))
    assert series.values[-1] >= 3
    assert len(series.times) == len(series.values)
    assert exemplars[0]["labels"]["trace_id"].startswith("t")


async def test_rules_record_and_fire(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    async with counting() as address:
        target = Target(address, component="agent", pod="1")
        async with prometheus.running(tmp_path, [target], rules=[rules], pace=FAST) as seen:
            await seen_within(seen, 'ALERTS{alertstate="firing"}')

            (alert,) = await seen.alerts()
            (recorded,) = await seen.query("component:counted:sum")

            assert (alert.name, alert.state) == ("Counted", "firing")
            assert alert.labels["severity"] == "page"
            assert alert.annotations["summary"].startswith("agent counted ")
            assert recorded.labels["component"] == "agent"
            assert await seen.rule_problems() == {}


async def test_a_target_that_is_no_longer_watched_is_gone_at_once(tmp_path: Path) -> None:
    async with counting() as one, counting() as other:
        first, second = (
            Target(one, component="sync", pod="1"),
            Target(other, component="sync", pod="2"),
        )
        async with prometheus.running(tmp_path, [first], pace=FAST) as seen:
            await seen_within(seen, 'counted_total{pod="1"}')

            await seen.watch([second])

            await seen_within(seen, 'counted_total{pod="2"} unless on () counted_total{pod="1"}')


async def test_an_endpoint_that_nobody_serves_is_named_with_the_reason(tmp_path: Path) -> None:
    gone = Target("127.0.0.1:1", component="sync", pod="1")
    async with prometheus.running(tmp_path, [gone], pace=FAST) as seen:
        with pytest.raises(PrometheusFailed, match="127.0.0.1:1: .*connection refused"):
            await seen.all_up(within_s=2.0)


async def test_a_query_that_is_none_is_refused_with_the_words_of_prometheus(tmp_path: Path) -> None:
    async with prometheus.running(tmp_path, []) as seen:
        with pytest.raises(PrometheusFailed, match=r"query of 'rate\(' is refused: .*parse error"):
            await seen.query("rate(")


async def test_a_rule_that_cannot_be_read_is_named_and_no_process_stays(tmp_path: Path) -> None:
    rules = tmp_path / "wrong.yaml"
    rules.write_text("groups: [{name: a, rules: [{record: b, expr: 'rate('}]}]")

    with pytest.raises(PrometheusFailed, match="wrong.yaml"):
        async with prometheus.running(tmp_path, [], rules=[rules]):
            pytest.fail("Prometheus started with a broken rule")


async def test_the_process_ends_with_its_context(tmp_path: Path) -> None:
    async with prometheus.running(tmp_path, []) as seen:
        pid = seen.pid
        os.kill(pid, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
