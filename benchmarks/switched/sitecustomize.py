"""Counting that can be switched off and on, in every process that finds this folder on its path.

Python imports a module of this name when it starts.  `benchmarks.telemetry` gives the folder to the
processes of its fleet, and sends them OFF and ON; nothing else does.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from midstreamer.runtime import measuring
from midstreamer.sync import counting
from midstreamer.telemetry import families

OFF, ON = signal.SIGUSR1, signal.SIGUSR2


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
    (counting, "count_verdicts"): nothing,
    (counting, "count_ticks"): nothing,
    (counting, "count_licences"): nothing,
}
_AS_IT_IS = {(owner, name): getattr(owner, name) for owner, name in _INSTEAD}


def switch(number: int, _frame: object) -> None:
    """Put all of one kind into its place."""
    for (owner, name), value in (_INSTEAD if number == OFF else _AS_IT_IS).items():
        setattr(owner, name, value)


for each in (OFF, ON):
    signal.signal(each, switch)
