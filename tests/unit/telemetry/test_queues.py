"""What metrics say of queues is asked for when somebody looks, and of the living only."""

from __future__ import annotations

import gc

from midstreamer.telemetry import metrics, queues
from tests.support.metered import shown


class AQueue:
    def __init__(self) -> None:
        self.items: list[float] = []


def watched() -> AQueue:
    queue = AQueue()
    queues.watch(
        "outbox",
        queue,
        depth=lambda queue: len(queue.items),
        capacity=lambda _: 9,
        oldest_s=lambda queue: max(queue.items, default=0.0),
    )
    return queue


def told() -> tuple[float, float, float]:
    every = (metrics.QUEUE_DEPTH, metrics.QUEUE_CAPACITY, metrics.QUEUE_OLDEST_S)
    depth, capacity, oldest_s = (shown(each, queue="outbox") for each in every)
    return depth, capacity, oldest_s


def test_a_queue_is_shown_as_it_is_at_that_moment() -> None:
    queue = watched()
    assert told() == (0, 9, 0)
    queue.items += [3.0, 1.0]
    assert told() == (2, 9, 3)


def test_a_queue_that_is_gone_is_shown_as_nothing_and_kept_by_nobody() -> None:
    queue = watched()
    queue.items.append(3.0)
    del queue
    gc.collect()
    assert told() == (0, 0, 0)
