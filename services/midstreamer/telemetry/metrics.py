"""Every metric of every process: the one catalogue of names.

Modules take the objects from here (``metrics.DECISIONS.labels(...).inc()``), `runtime.health`
serves them, and docs/reference/metrics.md is generated from `CATALOGUE`; so a name is spelled
once.  Every label is a closed set of words, given where the metric is made: a word from outside
the set, which a peer may have sent, counts as ``other``.  So no series, no value and no peer's id
is ever a label, and nobody else can make a new time series here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

from midstreamer.telemetry import words
from midstreamer.telemetry.words import Words

REGISTRY = CollectorRegistry()
"""Our own: a library that registers itself globally cannot add to what we publish."""

# Without the second series `_created` per counter, which nobody has ever drawn.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""From a QUIC round trip on loopback to the longest budget anybody should give."""


OTHER = words.OTHER
NO_LABELS: Mapping[str, Words] = MappingProxyType({})


class Described(NamedTuple):
    """One metric, as the reference describes it."""

    name: str
    kind: str
    labels: Mapping[str, Words]
    """Each label with its closed set of words."""
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: list[Described] = []

MetricT = TypeVar("MetricT", bound=Counter | Gauge | Histogram)


class Family(Generic[MetricT]):
    """One metric with labels: `labels` gives the child of these words."""

    def __init__(self, metric: MetricT, labels: Mapping[str, Words]) -> None:
        self._metric = metric
        self._words = labels

    def labels(self, *values: str, **named: str) -> MetricT:
        """The child to count in; a word outside its label's set becomes ``other``."""
        given = {**dict(zip(self._words, values, strict=False)), **named}
        closed = {label: self._closed(label, word) for label, word in given.items()}
        return cast("MetricT", self._metric.labels(**closed))

    def _closed(self, label: str, word: str) -> str:
        return str(word) if word in self._words.get(label, ()) else OTHER


def _counter(name: str, help: str) -> Counter:
    CATALOGUE.append(Described(f"{name}_total", "counter", NO_LABELS, help))
    return Counter(name, help, registry=REGISTRY)


def _counters(name: str, help: str, labels: Mapping[str, Words]) -> Family[Counter]:
    CATALOGUE.append(Described(f"{name}_total", "counter", labels, help))
    return Family(Counter(name, help, tuple(labels), registry=REGISTRY), labels)


def _gauge(name: str, help: str) -> Gauge:
    CATALOGUE.append(Described(name, "gauge", NO_LABELS, help))
    return Gauge(name, help, registry=REGISTRY)


def _gauges(name: str, help: str, labels: Mapping[str, Words]) -> Family[Gauge]:
    CATALOGUE.append(Described(name, "gauge", labels, help))
    return Family(Gauge(name, help, tuple(labels), registry=REGISTRY), labels)


def _histogram(name: str, help: str, *, buckets: Sequence[float]) -> Histogram:
    CATALOGUE.append(Described(name, "histogram", NO_LABELS, help, tuple(buckets)))
    return Histogram(name, help, buckets=buckets, registry=REGISTRY)


def _histograms(
    name: str, help: str, labels: Mapping[str, Words], *, buckets: Sequence[float]
) -> Family[Histogram]:
    CATALOGUE.append(Described(name, "histogram", labels, help, tuple(buckets)))
    return Family(Histogram(name, help, tuple(labels), buckets=buckets, registry=REGISTRY), labels)


# --- comparing and deciding -----------------------------------------------------------------------

PATTERN_MATCHES = _counters(
    "midstreamer_pattern_matches",
    "Windows compared with history, by measure.",
    {"measure": words.MEASURES},
)
DTW_LATENCY_MS = _histogram(
    "midstreamer_dtw_latency_ms",
    "Milliseconds one search of an agent's shards took in the kernels, one window.",
    buckets=(1, 2, 5, 10, 20),
)
DECISIONS = _counters(
    "midstreamer_decisions",
    "Decisions made, by outcome: LONG, SHORT, or the reason for silence.",
    {"outcome": words.OUTCOMES},
)
VERDICTS = _counters(
    "midstreamer_verdicts",
    "Decisions settled, by whether the favoured side came.",
    {"hit": words.HITS},
)

# --- talking --------------------------------------------------------------------------------------

HANDSHAKES = _counters(
    "midstreamer_handshakes",
    "Connections judged, by result: accepted, or the reason of the refusal.",
    {"result": words.REFUSALS | {words.ACCEPTED}},
)
LINKS = _gauges(
    "midstreamer_links", "Open connections, by the kind of the peer.", {"kind": words.KINDS}
)
REFUSED_FRAMES = _counters(
    "midstreamer_refused_frames",
    "Frames that a peer of this kind may not send; each closed its connection.",
    {"frame": words.FRAMES, "kind": words.KINDS},
)
SKIPPED_FRAMES = _counters(
    "midstreamer_skipped_frames",
    "Frames of a name that this version does not know, by the kind of peer that sent them.",
    {"kind": words.KINDS},
)
REQUEST_LATENCY_S = _histograms(
    "midstreamer_request_latency_seconds",
    "Seconds from a request's arrival to its answer, by frame and result (ok or an error code).",
    {"frame": words.FRAMES, "result": words.CODES | {words.OK}},
    buckets=LATENCY_BUCKETS_S,
)
QUEUE_DEPTH = _gauges(
    "midstreamer_queue_depth",
    "Things waiting in a bounded queue, by queue.",
    {"queue": words.QUEUES},
)

# --- storing and following ------------------------------------------------------------------------

SYNC_LATENCY_S = _histograms(
    "midstreamer_sync_latency_seconds",
    "Seconds of one step between memory and PostgreSQL, by kind: commit, feed, load.",
    {"kind": words.STORE_STEPS},
    buckets=LATENCY_BUCKETS_S,
)
WRITE_BATCH_ROWS = _histogram(
    "midstreamer_write_batch_rows",
    "Rows (ticks, decisions and verdicts) committed together in one transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 300, 1000, 10_000),
)
FEED_POSITION = _gauge(
    "midstreamer_feed_position", "Position of the change feed that this process has reached."
)
MEMBERS = _gauges(
    "midstreamer_members", "Processes with a live lease, by kind.", {"kind": words.KINDS}
)
STAGE = _gauges(
    "midstreamer_stage",
    "1 for the stage in which this process is, 0 for the others.",
    {"stage": words.STAGES},
)
COMPLETE = _gauge(
    "midstreamer_complete",
    "1 while every part that this process needs is there: shards held, sync reached. 0 does not"
    " make it unready: it refuses by name what it cannot answer.",
)
SHARDS_HELD = _gauge("midstreamer_shards_held", "Shards that this agent can answer for.")
CERTIFICATE_EXPIRY_S = _gauge(
    "midstreamer_certificate_not_after_seconds",
    "When this process's certificate expires, in seconds since 1970-01-01 UTC.",
)
SECURITY_FILE_WRONG = _gauges(
    "midstreamer_security_file_wrong",
    "1 while a file is wrong and what was loaded from it before stays in force, by file:"
    " certificate, bundle, authority, allowlist; request, where the key is in memory, while no"
    " new certificate was obtained.",
    {"file": words.FILES},
)
POSTGRES_CONNECTIONS = _gauge(
    "midstreamer_postgres_connections",
    "Connections that the process `postgres` has open to its clients, logged in or not.",
)
OPERATOR_LEADER = _gauge(
    "midstreamer_operator_leader",
    "1 while this replica of the operator leads, that is, holds the lease and works.",
)
SIGNING_REQUESTS = _counters(
    "midstreamer_signing_requests",
    "Signing requests that the operator answered, by result: signed, or why not.",
    {"result": words.SIGNED},
)

LOG_LINES_LEFT_OUT = _counters(
    "midstreamer_log_lines_left_out",
    "Log lines not written because a peer caused more of them than are written, by event.",
    {"event": words.EVENTS_BY_PEERS},
)
TASK_FAILURES = _counters(
    "midstreamer_task_failures", "Background loops that failed, by task.", {"task": words.TASKS}
)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)


def render() -> bytes:
    """Everything in Prometheus's text format."""
    return generate_latest(REGISTRY)


def read(text: str) -> dict[str, float]:
    """The values without labels of what `render` made; ValueError when it is no such text."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


def name(gauge: Gauge) -> str:
    """The name under which `render` shows a gauge."""
    return str(next(iter(gauge.describe())).name)
