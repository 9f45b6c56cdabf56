"""The metrics of queues are read at each scrape; a queue that is gone has no metrics."""

from __future__ import annotations

import gc

from midstreamer.telemetry import metrics, queues
from tests.support.metric_values import shown


class AQueue:
    room = 9

    def __init__(self) -> None:
        self.items: list[float] = []

    @property
    def depth(self) -> int:
        return len(self.items)

    @property
    def oldest_s(self) -> float:
        return max(self.items, default=0.0)


def watched() -> AQueue:
    queue = AQueue()
    queues.watch("outbox", queue)
    return queue


def queue_metrics() -> tuple[float, float, float]:
    every = (metrics.QUEUE_DEPTH, metrics.QUEUE_CAPACITY, metrics.QUEUE_OLDEST_S)
    depth, capacity, oldest_s = (shown(each, queue="outbox") for each in every)
    return depth, capacity, oldest_s


def test_a_queue_is_shown_as_it_is_at_that_moment() -> None:
    queue = watched()
    assert queue_metrics() == (0, 9, 0)
    queue.items += [3.0, 1.0]
    assert queue_metrics() == (2, 9, 3)


def test_a_queue_that_is_gone_is_shown_as_nothing_and_kept_by_nobody() -> None:
    queue = watched()
    queue.items.append(3.0)
    del queue
    gc.collect()
    assert queue_metrics() == (0, 0, 0)
