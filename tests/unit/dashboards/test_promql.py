"""The PromQL builder refuses metrics, labels and label values that do not exist."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from dashboards import promql, uncatalogued_series
from midstreamer.telemetry import label_values, metrics


def test_a_query_names_a_metric_as_prometheus_does() -> None:
    asked = promql.total(promql.rate(metrics.DECISIONS, "5m", component="coordinator"), "outcome")
    assert asked == (
        'sum by (outcome) (rate(midstreamer_decisions_total{component="coordinator"}[5m]))'
    )


def test_a_quantile_keeps_the_bucket_limits_in_its_sum() -> None:
    asked = promql.quantile(0.99, metrics.REQUEST_LATENCY_S, "5m", "frame", frame="Match")
    assert asked == (
        "histogram_quantile(0.99, sum by (le, frame)"
        ' (rate(midstreamer_request_latency_seconds_bucket{frame="Match"}[5m])))'
    )


def test_several_values_make_a_regular_expression_and_one_does_not() -> None:
    several = promql.series(metrics.LINKS, kind=promql.among("agent", "sync"))
    assert several == 'midstreamer_links{kind=~"agent|sync"}'
    query = promql.series(metrics.LINKS, kind=promql.none_of("client"))
    assert query == 'midstreamer_links{kind!="client"}'


def test_a_value_cannot_end_its_quotes() -> None:
    assert promql.series(uncatalogued_series.UP, pod='a"\\b') == 'up{pod="a\\"\\\\b"}'


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: promql.rate(metrics.LINKS, "5m"), "midstreamer_links is a gauge"),
        (lambda: promql.series(metrics.LINKS, colour="red"), "no label 'colour': it has kind, job"),
        (
            lambda: promql.series(metrics.LINKS, kind="clients"),
            "never has the value 'clients': it has",
        ),
        (
            lambda: promql.series(metrics.LINKS, component="frontend"),
            "never has the value 'frontend'",
        ),
        (lambda: promql.series(metrics.REQUEST_LATENCY_S), "histogram: no suffix does not fit"),
        (lambda: promql.series(metrics.LINKS, suffix="_bucket"), "gauge: _bucket does not fit"),
        (lambda: promql.within(0.3, metrics.REQUEST_LATENCY_S, "5m"), "no bucket 0.3: take one"),
    ],
)
def test_what_does_not_exist_cannot_be_asked_for(build: Callable[[], str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build()


def test_queried_process_metrics_are_published_by_the_library() -> None:
    published = ProcessCollector(registry=CollectorRegistry()).collect()
    names = {sample.name for family in published for sample in family.samples}
    assert {each.name for each in uncatalogued_series.PROCESS} <= names


def test_targets_are_the_kinds_of_processes_and_the_load_test() -> None:
    assert label_values.KINDS < uncatalogued_series.COMPONENTS
