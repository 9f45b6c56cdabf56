"""Counting that can be switched off, on, and counted itself, in processes that find this folder.

Python imports a module of this name when it starts.  `benchmarks.telemetry` gives the folder to the
processes of its fleet, and sends them OFF, ON and TALLY; nothing else does.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from midstreamer.runtime import measuring
from midstreamer.sync import commit_metrics
from midstreamer.telemetry import families

OFF, ON, TALLY = signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH
TOLD = "benchmark_operations"


def nothing(*_: Any, **__: Any) -> None:
    """In place of counting."""


def untimed(*_: Any) -> contextlib.AbstractContextManager[None]:
    """In place of measuring a block."""
    return _UNTIMED


class Uncounted:
    """In place of the metric of some labels."""

    inc = dec = set = observe = staticmethod(nothing)
    time = staticmethod(untimed)


_UNTIMED = contextlib.nullcontext()
_UNCOUNTED = Uncounted()


def uncounted(*_: Any, **__: Any) -> Uncounted:
    """In place of finding the metric of some labels."""
    return _UNCOUNTED


_INSTEAD: dict[tuple[Any, str], Any] = {
    (Counter, "inc"): nothing,
    (Gauge, "inc"): nothing,
    (Gauge, "dec"): nothing,
    (Gauge, "set"): nothing,
    (Histogram, "observe"): nothing,
    (Histogram, "time"): untimed,
    (families.Family, "labels"): uncounted,
    (families.Family, "clear"): nothing,
    (measuring, "served_s"): uncounted,
    (measuring, "called_s"): uncounted,
    (commit_metrics, "count_verdicts"): nothing,
    (commit_metrics, "count_ticks"): nothing,
    (commit_metrics, "count_licences"): nothing,
}
_AS_IT_IS = {(owner, name): getattr(owner, name) for owner, name in _INSTEAD}


_tally = dict.fromkeys(("inc", "dec", "set", "observe", "labels"), 0)


def _tallied(name: str, act: Any) -> Any:
    """The operation as it is, and one more of its kind."""

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
    """How often each operation was done while they were tallied."""

    def collect(self) -> Iterable[Metric]:
        """As one metric."""
        told = CounterMetricFamily(TOLD, "Operations on metrics.", labels=["operation"])
        for name, count in _tally.items():
            told.add_metric([name], count)
        yield told


def switch(number: int, _frame: object) -> None:
    """Put all of one kind into its place."""
    for (owner, name), value in _MODES[signal.Signals(number)].items():
        setattr(owner, name, value)


families.REGISTRY.register(Operations())
for each in _MODES:
    signal.signal(each, switch)
