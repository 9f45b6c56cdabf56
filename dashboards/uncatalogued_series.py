"""Series that panels and rules query but that are not in our catalogue of metrics.

They come from Prometheus itself, from the library prometheus_client, and from our recording rules.
They are described in the same way as the metrics of the catalogue, so that queries for them are
written and checked in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from midstreamer.telemetry import label_values
from midstreamer.telemetry.metric_builders import NO_LABELS, Described

JOB = "midstreamer"
"""The label `job` of every process of the product, on a laptop and in a cluster."""

COMPONENTS = frozenset({*label_values.KINDS, "loadtest"})
"""The values that the label `component` of a Prometheus target can have."""

TARGET_LABELS: Mapping[str, frozenset[str] | None] = MappingProxyType(
    {"job": None, "namespace": None, "component": COMPONENTS, "pod": None, "instance": None}
)
"""Labels that Prometheus adds to every series of a target, with their possible values.

None instead of values means that every value is possible.
"""

UP = Described("up", "gauge", NO_LABELS, "1 while Prometheus can scrape the target, else 0.")
CPU = Described("process_cpu_seconds_total", "counter", NO_LABELS, "Seconds of processor time.")
MEMORY = Described("process_resident_memory_bytes", "gauge", NO_LABELS, "Bytes of resident memory.")
OPEN_FILES = Described("process_open_fds", "gauge", NO_LABELS, "Open files and sockets.")
MOST_FILES = Described("process_max_fds", "gauge", NO_LABELS, "Limit of open files and sockets.")
STARTED = Described(
    "process_start_time_seconds",
    "gauge",
    NO_LABELS,
    "When the process started, in seconds since 1970.",
)
PROCESS = (CPU, MEMORY, OPEN_FILES, MOST_FILES, STARTED)
"""Metrics that the library prometheus_client publishes for each process."""

SLOS = frozenset({"availability", "latency"})
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Windows for which recording rules keep the share of requests that missed an objective."""
SLI_ERROR = {
    window: Described(
        f"midstreamer:sli_error:ratio_rate{window}",
        "gauge",
        MappingProxyType({"slo": SLOS}),
        f"Share of the requests of the last {window} that failed the objective.",
    )
    for window in WINDOWS
}
OBJECTIVE = Described(
    "midstreamer:slo_objective:ratio",
    "gauge",
    MappingProxyType({"slo": SLOS}),
    "Share of requests that the objective asks for.",
)
BUDGET_LEFT = Described(
    "midstreamer:error_budget:remaining",
    "gauge",
    MappingProxyType({"slo": SLOS}),
    "Share of the error budget that is left: 1 is all of it; below 0 it is overspent.",
)
RECORDED = (*SLI_ERROR.values(), OBJECTIVE, BUDGET_LEFT)
"""Series that our recording rules compute."""
