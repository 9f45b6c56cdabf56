"""Series that panels and rules ask for and that are no metric of the catalogue.

What Prometheus, the library of metrics and our own recording rules bring is described here as the
catalogue describes a metric, so that it is asked for in the same way and held to the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from midstreamer.telemetry import words
from midstreamer.telemetry.families import NO_LABELS, Described

JOB = "midstreamer"
"""The label `job` of every process of the product, on a laptop and in a cluster."""

COMPONENTS = frozenset({*words.KINDS, "loadtest"})
"""What the label `component` of a target says."""

TARGET_LABELS: Mapping[str, frozenset[str] | None] = MappingProxyType(
    {"job": None, "namespace": None, "component": COMPONENTS, "pod": None, "instance": None}
)
"""Labels that Prometheus adds to each series of a target; None stands for any value."""

UP = Described("up", "gauge", NO_LABELS, "1 while Prometheus reaches the target, 0 while not.")
CPU = Described("process_cpu_seconds_total", "counter", NO_LABELS, "Seconds of processor time.")
MEMORY = Described("process_resident_memory_bytes", "gauge", NO_LABELS, "Bytes held in memory.")
OPEN_FILES = Described("process_open_fds", "gauge", NO_LABELS, "Open files and sockets.")
MOST_FILES = Described("process_max_fds", "gauge", NO_LABELS, "Files and sockets at most.")
STARTED = Described(
    "process_start_time_seconds", "gauge", NO_LABELS, "When the process began, since 1970."
)
PROCESS = (CPU, MEMORY, OPEN_FILES, MOST_FILES, STARTED)
"""What the library publishes of each process."""

SLOS = frozenset({"availability", "latency"})
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Windows over which recording rules keep the share of requests that failed an objective."""
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
    "Share of the error budget that is left: 1 is all of it, below 0 it is overdrawn.",
)
RECORDED = (*SLI_ERROR.values(), OBJECTIVE, BUDGET_LEFT)
"""What our own recording rules keep."""
