"""Metrics: a scrape reads values from functions; children are cached; label values are bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition

from midstreamer.telemetry import label_values, metric_builders, metrics
from tests.support.metric_values import shown


def test_a_counter_asks_for_its_value_in_either_format() -> None:
    registry = CollectorRegistry()
    counter = Counter("things", "Things.", ["kind"], registry=registry)
    values = {"a": 1.0, "b": 5.0}
    for kind in values:
        metric_builders.asked(counter.labels(kind), lambda kind=kind: values[kind])  # type: ignore[misc]
    values["b"] = 7
    for text in (generate_latest(registry), exposition.generate_latest(registry)):  # type: ignore[no-untyped-call]
        assert b'\nthings_total{kind="a"} 1.0\n' in text
        assert b'\nthings_total{kind="b"} 7.0\n' in text


def test_a_counter_whose_value_is_unknown_shows_nothing() -> None:
    registry = CollectorRegistry()
    counter = Counter("things", "Things.", registry=registry)
    metric_builders.asked(counter, lambda: None)
    assert (
        generate_latest(registry) == b"# HELP things_total Things.\n# TYPE things_total counter\n"
    )


def a_family() -> tuple[metric_builders.Family[Counter], CollectorRegistry]:
    registry = CollectorRegistry()
    counter = Counter("things", "Things.", ["kind"], registry=registry)
    return metric_builders.Family(counter, {"kind": frozenset({"a", "b"})}), registry


def test_a_child_is_the_same_however_it_is_asked_for() -> None:
    family, _ = a_family()
    assert family.labels("a") is family.labels("a") is family.labels(kind="a")
    assert family.labels("a") is not family.labels("b")


def test_words_from_outside_are_not_remembered() -> None:
    family, _ = a_family()
    for number in range(100):
        family.labels(f"peer {number}").inc()
    family.labels("a").inc()
    assert len(family._known) == 1
    assert family.labels("peer 0")._value.get() == 100


def test_a_family_that_was_cleared_counts_anew_where_it_can_be_seen() -> None:
    family, registry = a_family()
    family.labels("a").inc(5)
    family.clear()
    family.labels("a").inc()
    assert registry.get_sample_value("things_total", {"kind": "a"}) == 1


def test_every_process_tells_its_version() -> None:
    (version,) = label_values.VERSIONS
    assert shown(metrics.BUILD, version=version) == 1
