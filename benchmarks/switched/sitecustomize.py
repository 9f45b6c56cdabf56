"""Switch the metrics of a process off and on by signals, and count operations on metrics.

Python imports a module named sitecustomize when it starts.  Only `benchmarks.telemetry` puts this
folder on the path, for the processes of its fleet.  It sends them the signals OFF, ON and TALLY.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from midstreamer.sync import forecast_metrics
from midstreamer.telemetry import metric_builders

OFF, ON, TALLY = signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH
"""Signals to a process: disable metrics; enable them; enable them and count operations."""
TOLD = "benchmark_operations"
"""Name of the metric that publishes how many operations on metrics there were."""


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing; replaces an operation on a metric while metrics are off."""


def untimed(*_: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that does nothing.

    While metrics are off, this function replaces the method `Histogram.time`.
    """
    return _UNTIMED


class Uncounted:
    """Stands for a metric while metrics are off; its operations do nothing."""

    inc = dec = set = observe = staticmethod(nothing)
    time = staticmethod(untimed)


_UNTIMED = contextlib.nullcontext()
_UNCOUNTED = Uncounted()


def uncounted(*_: Any, **__: Any) -> Uncounted:
    """Return a metric whose operations do nothing.

    While metrics are off, this function replaces the method `Family.labels`, which finds the metric
    with the given label values.
    """
    return _UNCOUNTED


_INSTEAD: dict[tuple[Any, str], Any] = {
    (Counter, "inc"): nothing,
    (Gauge, "inc"): nothing,
    (Gauge, "dec"): nothing,
    (Gauge, "set"): nothing,
    (Histogram, "observe"): nothing,
    (Histogram, "time"): untimed,
    (metric_builders.Family, "labels"): uncounted,
    (metric_builders.Family, "clear"): nothing,
    (forecast_metrics, "count_verdicts"): nothing,
    (forecast_metrics, "count_ticks"): nothing,
}
_AS_IT_IS = {(owner, name): getattr(owner, name) for owner, name in _INSTEAD}


_tally = dict.fromkeys(("inc", "dec", "set", "observe", "labels"), 0)


def _tallied(name: str, act: Any) -> Any:
    """Return the operation, wrapped so that it also counts its calls."""

    def tallied(*given: Any, **named: Any) -> Any:
        _tally[name] += 1
        return act(*given, **named)

    return tallied


_TALLIED = {
    (owner, name): _tallied(name, act) if name in _tally else act
    for (owner, name), act in _AS_IT_IS.items()
}
_MODES = {OFF: _INSTEAD, ON: _AS_IT_IS, TALLY: _TALLIED}


class Operations(Collector):
    """Collector that publishes how often each operation on metrics was called in mode TALLY."""

    def collect(self) -> Iterable[Metric]:
        """Yield the counts as one counter with the label ``operation``."""
        told = CounterMetricFamily(TOLD, "Operations on metrics.", labels=["operation"])
        for name, count in _tally.items():
            told.add_metric([name], count)
        yield told


def switch(number: int, _frame: object) -> None:
    """Handle the signal OFF, ON or TALLY: install the operations of the mode of the same name."""
    for (owner, name), value in _MODES[signal.Signals(number)].items():
        setattr(owner, name, value)


metric_builders.REGISTRY.register(Operations())
for each in _MODES:
    signal.signal(each, switch)
