"""A full garbage collection runs when memory has grown, so that old cycles are freed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from midstreamer.runtime import garbage_collection
from midstreamer.runtime.garbage_collection import GROWTH, LONGEST_S, Collections


@pytest.fixture(autouse=True)
def _unfreeze() -> Iterator[None]:
    yield
    gc.unfreeze()


class Node:
    """An object that can be part of a cycle and has weak references."""

    def __init__(self) -> None:
        self.itself = self


def test_a_full_collection_is_due_when_memory_has_grown_by_half() -> None:
    collections = Collections(1000, now_s=0.0)
    assert not collections.due(int(GROWTH * 1000), now_s=1.0)
    assert collections.due(int(GROWTH * 1000) + 1, now_s=1.0)
    collections.collected(1400, now_s=1.0)
    assert not collections.due(2000, now_s=2.0)


def test_a_full_collection_is_due_after_some_time_in_any_case() -> None:
    collections = Collections(1000, now_s=5.0)
    assert not collections.due(1000, now_s=4.9 + LONGEST_S)
    assert collections.due(1000, now_s=5.0 + LONGEST_S)


async def test_a_cycle_that_has_grown_old_is_collected_once_memory_has_grown() -> None:
    with garbage_collection.sparing(look_s=0.01):
        old = Node()
        gc.collect(1)  # this collection moves the object to the oldest generation
        gone = weakref.ref(old)
        del old
        gc.collect(1)
        assert gone() is not None, "the collection of a young generation freed an old cycle"
        grown = [[number] for number in range(2_000_000)]
        async with asyncio.timeout(10):
            while gone() is not None:  # noqa: ASYNC110 - a collection has no event
                await asyncio.sleep(0.01)
        assert grown


async def test_loaded_objects_are_frozen_and_the_thresholds_come_back_afterwards() -> None:
    before = gc.get_threshold()
    with garbage_collection.sparing():
        assert gc.get_threshold() == (*before[:2], garbage_collection.NEVER)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
