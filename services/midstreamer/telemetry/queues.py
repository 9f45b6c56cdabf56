"""Queues as metrics: what waits, what fits in, and how long the oldest has waited.

All three are asked for when somebody scrapes, so counting them costs a request nothing.  Of each
queue a process shows one: the one that was watched last.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from prometheus_client import Gauge

from midstreamer.telemetry import metrics

_Owner = TypeVar("_Owner")


def watch(
    queue: str,
    owner: _Owner,
    *,
    depth: Callable[[_Owner], int],
    capacity: Callable[[_Owner], int],
    oldest_s: Callable[[_Owner], float] | None = None,
) -> None:
    """Show the queue of an owner under its name, for as long as the owner lives.

    ``oldest_s`` is the age of what waits longest, in seconds, 0 when nothing waits.
    """
    shown(metrics.QUEUE_DEPTH.labels(queue), owner, depth)
    shown(metrics.QUEUE_CAPACITY.labels(queue), owner, capacity)
    if oldest_s is not None:
        shown(metrics.QUEUE_OLDEST_S.labels(queue), owner, oldest_s)


def shown(gauge: Gauge, owner: _Owner, value: Callable[[_Owner], float]) -> None:
    """Let a gauge ask its owner for the value; 0 once the owner is gone."""
    held: weakref.ref[Any] = weakref.ref(owner)

    def ask() -> float:
        present = held()
        return 0.0 if present is None else float(value(present))

    gauge.set_function(ask)
