"""Every metric of every process: the one catalogue of names.

Modules take the objects from here (``metrics.DECISIONS.labels(...).inc()``), `runtime.health`
serves them, and docs/reference/metrics.md is generated from `CATALOGUE`; so a name is spelled
once.  Labels are small closed sets: no series, no value and no peer's id is ever a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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

REGISTRY = CollectorRegistry()
"""Our own: a library that registers itself globally cannot add to what we publish."""

# Without the second series `_created` per counter, which nobody has ever drawn.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""From a QUIC round trip on loopback to the longest budget anybody should give."""


class Described(NamedTuple):
    """One metric, as the reference describes it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: list[Described] = []


def _counter(name: str, help: str, labels: Sequence[str] = ()) -> Counter:
    CATALOGUE.append(Described(f"{name}_total", "counter", tuple(labels), help))
    return Counter(name, help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
    CATALOGUE.append(Described(name, "gauge", tuple(labels), help))
    return Gauge(name, help, labels, registry=REGISTRY)


def _histogram(
    name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
) -> Histogram:
    CATALOGUE.append(Described(name, "histogram", tuple(labels), help, tuple(buckets)))
    return Histogram(name, help, labels, buckets=buckets, registry=REGISTRY)


# --- comparing and deciding -----------------------------------------------------------------------

PATTERN_MATCHES = _counter(
    "midstreamer_pattern_matches", "Windows compared with history, by measure.", ["measure"]
)
DTW_LATENCY_MS = _histogram(
    "midstreamer_dtw_latency_ms",
    "Milliseconds one search of an agent's shards took in the kernels, one window.",
    buckets=(1, 2, 5, 10, 20),
)
DECISIONS = _counter(
    "midstreamer_decisions",
    "Decisions made, by outcome: LONG, SHORT, or the reason for silence.",
    ["outcome"],
)
VERDICTS = _counter(
    "midstreamer_verdicts", "Decisions settled, by whether the favoured side came.", ["hit"]
)

# --- talking --------------------------------------------------------------------------------------

HANDSHAKES = _counter(
    "midstreamer_handshakes",
    "Connections judged, by result: accepted, or the reason of the refusal.",
    ["result"],
)
LINKS = _gauge("midstreamer_links", "Open connections, by the kind of the peer.", ["kind"])
REFUSED_FRAMES = _counter(
    "midstreamer_refused_frames",
    "Frames that a peer of this kind may not send; each closed its connection.",
    ["frame", "kind"],
)
REQUEST_LATENCY_S = _histogram(
    "midstreamer_request_latency_seconds",
    "Seconds from a request's arrival to its answer, by frame and result (ok or an error code).",
    ["frame", "result"],
    buckets=LATENCY_BUCKETS_S,
)
QUEUE_DEPTH = _gauge(
    "midstreamer_queue_depth", "Things waiting in a bounded queue, by queue.", ["queue"]
)

# --- storing and following ------------------------------------------------------------------------

SYNC_LATENCY_S = _histogram(
    "midstreamer_sync_latency_seconds",
    "Seconds of one step between memory and PostgreSQL, by kind: commit, feed, load.",
    ["kind"],
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
MEMBERS = _gauge("midstreamer_members", "Processes with a live lease, by kind.", ["kind"])
SHARDS_HELD = _gauge("midstreamer_shards_held", "Shards that this agent can answer for.")
CERTIFICATE_EXPIRY_S = _gauge(
    "midstreamer_certificate_not_after_seconds",
    "When this process's certificate expires, in seconds since 1970-01-01 UTC.",
)

LOG_LINES_LEFT_OUT = _counter(
    "midstreamer_log_lines_left_out",
    "Log lines not written because a peer caused more of them than are written, by event.",
    ["event"],
)
TASK_FAILURES = _counter(
    "midstreamer_task_failures", "Background loops that failed, by task.", ["task"]
)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)


def render() -> bytes:
    """Everything in Prometheus's text format."""
    return generate_latest(REGISTRY)
