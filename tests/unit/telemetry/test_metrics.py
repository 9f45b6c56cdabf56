"""The catalogue of metrics lists the metrics in the registry, and no others."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from midstreamer.telemetry import metrics


def test_every_metric_of_ours_is_in_the_catalogue() -> None:
    published = {
        family.name
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name.startswith("midstreamer_")
    }
    assert published == {metric.name.removesuffix("_total") for metric in metrics.CATALOGUE}


def test_names_carry_their_unit_or_count_last() -> None:
    for metric in metrics.CATALOGUE:
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_dtw_latency_has_the_agreed_buckets() -> None:
    (dtw,) = [metric for metric in metrics.CATALOGUE if metric.name == "midstreamer_dtw_latency_ms"]
    assert dtw.buckets == (1, 2, 5, 10, 20)


def test_no_label_can_hold_a_series_or_a_peer() -> None:
    labels = {label for metric in metrics.CATALOGUE for label in metric.labels}
    assert not labels & {"series", "peer", "id", "address", "value"}


def test_process_figures_are_published_too() -> None:
    assert b"process_resident_memory_bytes" in metrics.render()
