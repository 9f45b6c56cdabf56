"""Queues as metrics: what waits, what fits in, and how long the oldest has waited.

All three are asked for when somebody scrapes, so counting them costs a request nothing.  Of each
queue a process shows one: the one that was watched last.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from prometheus_client import Gauge

from midstreamer.telemetry import metrics

_Owner = TypeVar("_Owner")


class Queue(Protocol):
    """What can be shown of a bounded queue."""

    @property
    def depth(self) -> int:
        """How many things are in it."""

    @property
    def room(self) -> int:
        """How many fit in."""

    @property
    def oldest_s(self) -> float:
        """Age of what waits longest, in seconds; 0 when nothing waits."""


def watch(name: str, queue: Queue) -> None:
    """Show a queue under its name, for as long as it lives."""
    shown(metrics.QUEUE_DEPTH.labels(name), queue, lambda queue: queue.depth)
    shown(metrics.QUEUE_CAPACITY.labels(name), queue, lambda queue: queue.room)
    shown(metrics.QUEUE_OLDEST_S.labels(name), queue, lambda queue: queue.oldest_s)


def age_s(moments_s: Iterable[float]) -> float:
    """Seconds since the first of these moments, by the clock of the loop; 0 when there is none."""
    first_s = next(iter(moments_s), None)
    return 0.0 if first_s is None else asyncio.get_running_loop().time() - first_s


def shown(gauge: Gauge, owner: _Owner, value: Callable[[_Owner], float]) -> None:
    """Let a gauge ask its owner for the value; 0 once the owner is gone."""
    held: weakref.ref[Any] = weakref.ref(owner)

    def ask() -> float:
        present = held()
        return 0.0 if present is None else float(value(present))

    gauge.set_function(ask)
