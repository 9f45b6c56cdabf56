"""`lifecycle`: the stages of a process, and background tasks that end with its life."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.domain.errors import LocalProtocolError
from midstreamer.runtime import lifecycle
from midstreamer.runtime.lifecycle import Asked, Ended, Lifecycle, Machine, Stage, Started


def test_a_process_starts_serves_drains_and_stops() -> None:
    machine, seen = Machine(), [Stage.STARTING]
    for event in (Started(), Asked(), Ended()):
        machine.handle(event)
        seen.append(machine.stage)
    assert seen == list(Stage)


def test_a_process_that_drains_while_it_starts_never_serves() -> None:
    machine = Machine()
    machine.handle(Asked())
    assert not machine.handle(Started())
    assert machine.stage is Stage.DRAINING


def test_every_stage_can_end_and_none_comes_back() -> None:
    order = list(Stage)
    for stage, moves in lifecycle.TRANSITIONS.items():
        assert moves[Ended] is Stage.STOPPED
        assert all(order.index(after) >= order.index(stage) for after in moves.values())


def test_serving_again_after_the_end_is_our_own_mistake() -> None:
    machine = Machine()
    machine.handle(Ended())
    with pytest.raises(LocalProtocolError, match="Started is not allowed in the stage stopped"):
        machine.handle(Started())


async def test_tasks_of_a_lifecycle_end_with_it() -> None:
    life = Lifecycle()
    async with life:
        task = life.spawn("test", asyncio.sleep(3600))
        life.serve()
    assert task.cancelled()
    assert life.stage is Stage.STOPPED


async def test_draining_that_takes_too_long_is_cut_short() -> None:
    life = Lifecycle(drain_s=0.01)
    async with life:
        life.drain("a test")
        assert not await life.drained(asyncio.sleep(3600))
        assert await life.drained(asyncio.sleep(0))
        assert life.stage is Stage.DRAINING


async def test_background_work_ends_with_its_block() -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.sleep(3600)

    async with Lifecycle() as life:
        async with life.background("test", work):
            await began.wait()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "test"]
