"""Building blocks of metrics: the registry, labels with closed sets of values, and descriptions.

`telemetry.metrics` creates all metrics with these functions.  Every label has a closed set of
values, given where the metric is created; any other value, which a peer may have sent, counts as
``other``.  So a peer cannot create new time series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, MethodType
from typing import Generic, NamedTuple, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.samples import Sample

from midstreamer.telemetry import label_values
from midstreamer.telemetry.label_values import FirstNames, Words

REGISTRY = CollectorRegistry()
"""Registry of this project's metrics. It is not the global one, so that a library that registers
its own metrics globally does not add them to what a process publishes."""

# Publish no second series `_created` for each counter: no dashboard uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Upper limits of latency buckets in seconds, from a QUIC round trip on loopback to the longest
budget that a request should have."""

OTHER = label_values.OTHER
Labels = Mapping[str, Words | FirstNames]
"""Each label with the set of values that it may have."""
NO_LABELS: Labels = MappingProxyType({})


class Described(NamedTuple):
    """Description of one metric; the reference page of metrics is generated from all of them."""

    name: str
    kind: str
    labels: Labels
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: list[Described] = []
"""Descriptions of all metrics, in the order of their creation."""

MetricT = TypeVar("MetricT", bound=Counter | Gauge | Histogram)


class Family(Generic[MetricT]):
    """One metric with labels; `Family.labels` returns the child metric for given label values."""

    def __init__(self, metric: MetricT, labels: Labels) -> None:
        self._metric = metric
        self._words = labels
        self._known: dict[tuple[object, ...], MetricT] = {}
        """Cache of children by the arguments of `labels`, because looking a child up in the library
        takes ten times as long as counting. Only values in the sets of the labels are cached, so
        the cache is bounded."""

    def labels(self, *values: str, **named: str) -> MetricT:
        """Return the child for these label values; a value outside its set becomes ``other``."""
        asked = (values, *named.items())
        found = self._known.get(asked)
        if found is None:
            given = {**dict(zip(self._words, values, strict=False)), **named}
            closed = {label: self._closed(label, word) for label, word in given.items()}
            found = cast("MetricT", self._metric.labels(**closed))
            if closed == given:
                self._known[asked] = found
        return found

    def clear(self) -> None:
        """Remove all children, so that a gauge shows no values of things that no longer exist."""
        self._known.clear()
        self._metric.clear()

    def describe(self) -> Iterable[Metric]:
        """Return the library's description of the metric, without values."""
        return self._metric.describe()

    def _closed(self, label: str, word: str) -> str:
        return str(word) if word in self._words.get(label, ()) else OTHER


def name(metric: Counter | Gauge | Histogram | Family[MetricT]) -> str:
    """Return the name by which queries find a metric. A counter's name ends with ``_total``.

    The series of a histogram have this name followed by ``_bucket``, ``_sum`` or ``_count``.
    """
    described = next(iter(metric.describe()))
    return f"{described.name}_total" if described.type == "counter" else str(described.name)


def counter(name: str, help: str) -> Counter:
    """Create a counter without labels; its series is called ``<name>_total``."""
    CATALOGUE.append(Described(f"{name}_total", "counter", NO_LABELS, help))
    return Counter(name, help, registry=REGISTRY)


def counters(name: str, help: str, labels: Labels) -> Family[Counter]:
    """Create a counter for each combination of label values."""
    CATALOGUE.append(Described(f"{name}_total", "counter", labels, help))
    return Family(Counter(name, help, tuple(labels), registry=REGISTRY), labels)


def asked(counter: Counter, value: Callable[[], float | None]) -> None:
    """Let a counter read its value from a function at each scrape, like `Gauge.set_function`.

    So the code that counts, for example datagrams, only adds 1 to a plain number, which is cheaper.
    The result of ``value`` must never decrease.  ``value`` returns None on a machine that cannot
    provide the number; then the metric shows nothing.
    """

    def samples(_: Counter) -> Iterable[Sample]:
        total = value()
        return () if total is None else (Sample("_total", {}, float(total), None, None),)

    counter._child_samples = MethodType(samples, counter)  # type: ignore[method-assign]  # noqa: SLF001 - as the library does


def gauge(name: str, help: str) -> Gauge:
    """Create a gauge without labels: a value that goes up and down."""
    CATALOGUE.append(Described(name, "gauge", NO_LABELS, help))
    return Gauge(name, help, registry=REGISTRY)


def gauges(name: str, help: str, labels: Labels) -> Family[Gauge]:
    """Create a gauge for each combination of label values."""
    CATALOGUE.append(Described(name, "gauge", labels, help))
    return Family(Gauge(name, help, tuple(labels), registry=REGISTRY), labels)


def histogram(name: str, help: str, *, buckets: Sequence[float]) -> Histogram:
    """Create a histogram without labels; ``buckets`` are the upper limits of its buckets."""
    CATALOGUE.append(Described(name, "histogram", NO_LABELS, help, tuple(buckets)))
    return Histogram(name, help, buckets=buckets, registry=REGISTRY)


def histograms(
    name: str, help: str, labels: Labels, *, buckets: Sequence[float]
) -> Family[Histogram]:
    """Create a histogram for each combination of label values."""
    CATALOGUE.append(Described(name, "histogram", labels, help, tuple(buckets)))
    return Family(Histogram(name, help, tuple(labels), buckets=buckets, registry=REGISTRY), labels)
