"""What metrics are made with: the registry, closed labels, and a description of each metric.

`telemetry.metrics` is the catalogue that is written with this.  Every label is a closed set of
words, given where the metric is made: a word from outside the set, which a peer may have sent,
counts as ``other``.  So nobody else can make a new time series here.
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

from midstreamer.telemetry import words
from midstreamer.telemetry.words import FirstNames, Words

REGISTRY = CollectorRegistry()
"""Our own: a library that registers itself globally cannot add to what we publish."""

# Without the second series `_created` per counter, which nobody has ever drawn.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""From a QUIC round trip on loopback to the longest budget anybody should give."""

OTHER = words.OTHER
Labels = Mapping[str, Words | FirstNames]
"""Each label with the words that it may say."""
NO_LABELS: Labels = MappingProxyType({})


class Described(NamedTuple):
    """One metric, as the reference describes it."""

    name: str
    kind: str
    labels: Labels
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: list[Described] = []

MetricT = TypeVar("MetricT", bound=Counter | Gauge | Histogram)


class Family(Generic[MetricT]):
    """One metric with labels: `labels` gives the child of these words."""

    def __init__(self, metric: MetricT, labels: Labels) -> None:
        self._metric = metric
        self._words = labels
        self._known: dict[tuple[object, ...], MetricT] = {}
        """Children by how they were asked for: finding one anew costs ten times what counting does.
        Those of words from outside the sets are not kept, so it is bounded as the sets are."""

    def labels(self, *values: str, **named: str) -> MetricT:
        """The child to count in; a word outside its label's set becomes ``other``."""
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
        """Forget all children; for a gauge of things that come and go."""
        self._known.clear()
        self._metric.clear()

    def describe(self) -> Iterable[Metric]:
        """As a metric of the library without labels does: its one family, without values."""
        return self._metric.describe()

    def _closed(self, label: str, word: str) -> str:
        return str(word) if word in self._words.get(label, ()) else OTHER


def name(metric: Counter | Gauge | Histogram | Family[MetricT]) -> str:
    """The name under which queries find a metric: of a counter with ``_total``.

    A histogram's series are this name with ``_bucket``, ``_sum`` and ``_count`` behind it.
    """
    described = next(iter(metric.describe()))
    return f"{described.name}_total" if described.type == "counter" else str(described.name)


def counter(name: str, help: str) -> Counter:
    """A counter; its series is called ``name_total``."""
    CATALOGUE.append(Described(f"{name}_total", "counter", NO_LABELS, help))
    return Counter(name, help, registry=REGISTRY)


def counters(name: str, help: str, labels: Labels) -> Family[Counter]:
    """A counter for each combination of the words of its labels."""
    CATALOGUE.append(Described(f"{name}_total", "counter", labels, help))
    return Family(Counter(name, help, tuple(labels), registry=REGISTRY), labels)


def asked(counter: Counter, value: Callable[[], float | None]) -> None:
    """Let a counter ask for its value when somebody scrapes, as `Gauge.set_function` does.

    What is counted for each datagram is then a plain addition elsewhere.  The value may never go
    down; None shows nothing, where this machine cannot tell.
    """

    def samples(_: Counter) -> Iterable[Sample]:
        told = value()
        return () if told is None else (Sample("_total", {}, float(told), None, None),)

    counter._child_samples = MethodType(samples, counter)  # type: ignore[method-assign]  # noqa: SLF001 - as the library does


def gauge(name: str, help: str) -> Gauge:
    """A value that goes up and down."""
    CATALOGUE.append(Described(name, "gauge", NO_LABELS, help))
    return Gauge(name, help, registry=REGISTRY)


def gauges(name: str, help: str, labels: Labels) -> Family[Gauge]:
    """A gauge for each combination of the words of its labels."""
    CATALOGUE.append(Described(name, "gauge", labels, help))
    return Family(Gauge(name, help, tuple(labels), registry=REGISTRY), labels)


def histogram(name: str, help: str, *, buckets: Sequence[float]) -> Histogram:
    """How values are distributed over buckets, whose upper limits these are."""
    CATALOGUE.append(Described(name, "histogram", NO_LABELS, help, tuple(buckets)))
    return Histogram(name, help, buckets=buckets, registry=REGISTRY)


def histograms(
    name: str, help: str, labels: Labels, *, buckets: Sequence[float]
) -> Family[Histogram]:
    """A histogram for each combination of the words of its labels."""
    CATALOGUE.append(Described(name, "histogram", labels, help, tuple(buckets)))
    return Family(Histogram(name, help, tuple(labels), buckets=buckets, registry=REGISTRY), labels)
