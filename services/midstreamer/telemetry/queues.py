"""Metrics of bounded queues: depth, capacity, and age of the oldest entry.

The values are read only when metrics are scraped, so they cost a request nothing.  If several
queues of a process have the same name, the metrics show the one that was passed to `watch` last.
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
    """A bounded queue whose state is shown in metrics."""

    @property
    def depth(self) -> int:
        """Entries in the queue now."""

    @property
    def room(self) -> int:
        """Maximum entries that the queue takes."""

    @property
    def oldest_s(self) -> float:
        """Seconds for which the oldest entry has waited; 0 when none waits."""


def watch(name: str, queue: Queue) -> None:
    """Show a queue in the queue metrics, with the label ``name``, while the object exists."""
    shown(metrics.QUEUE_DEPTH.labels(name), queue, lambda queue: queue.depth)
    shown(metrics.QUEUE_CAPACITY.labels(name), queue, lambda queue: queue.room)
    shown(metrics.QUEUE_OLDEST_S.labels(name), queue, lambda queue: queue.oldest_s)


def age_s(moments_s: Iterable[float]) -> float:
    """Return how many seconds ago the earliest of ``moments_s`` was; 0 if there is none.

    The moments are times of the event loop's clock, in ascending order.
    """
    first_s = next(iter(moments_s), None)
    return 0.0 if first_s is None else asyncio.get_running_loop().time() - first_s


def shown(gauge: Gauge, owner: _Owner, value: Callable[[_Owner], float]) -> None:
    """Let a gauge read its value from ``owner`` at each scrape; 0 once the owner is deleted."""
    held: weakref.ref[Any] = weakref.ref(owner)

    def ask() -> float:
        present = held()
        return 0.0 if present is None else float(value(present))

    gauge.set_function(ask)
