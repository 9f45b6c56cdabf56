"""`racing.first`: alternatives start one after another, and the first that works wins."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.domain.errors import Unavailable
from midstreamer.transport import racing
from tests.support import virtual_time


class _Ways:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.discarded: list[str] = []

    async def works(self, name: str, after_s: float = 0.0) -> str:
        self.begun.append(name)
        await asyncio.sleep(after_s)
        return name

    async def fails(self, name: str) -> str:
        self.begun.append(name)
        raise Unavailable(name)

    async def discard(self, name: str) -> None:
        self.discarded.append(name)


def test_a_silent_way_delays_the_next_by_the_stagger_alone() -> None:
    async def main() -> None:
        ways, loop = _Ways(), asyncio.get_running_loop()
        began_s = loop.time()
        attempts = [lambda: ways.works("silent", 3600.0), lambda: ways.works("b", 0.01)]
        assert await racing.first(attempts, discard=ways.discard) == "b"
        assert loop.time() - began_s < racing.STAGGER_S + 0.02

    virtual_time.run(main())


async def test_a_way_that_fails_is_followed_at_once() -> None:
    ways = _Ways()
    attempts = [lambda: ways.fails("a"), lambda: ways.works("b")]
    assert await racing.first(attempts, discard=ways.discard) == "b"


async def test_a_way_that_works_leaves_the_next_untried() -> None:
    ways = _Ways()
    attempts = [lambda: ways.works("a"), lambda: ways.works("b")]
    assert await racing.first(attempts, discard=ways.discard) == "a"
    assert ways.begun == ["a"]


async def test_when_none_works_the_error_of_the_first_is_raised() -> None:
    ways = _Ways()
    with pytest.raises(Unavailable, match="^a$"):
        await racing.first([lambda: ways.fails("a"), lambda: ways.fails("b")], discard=ways.discard)


def test_one_that_works_too_late_is_discarded() -> None:
    async def main() -> None:
        ways = _Ways()
        both = [lambda: ways.works("a", 0.3), lambda: ways.works("b", 0.05)]
        assert await racing.first(both, discard=ways.discard) in ("a", "b")
        assert len(ways.discarded) <= 1

    virtual_time.run(main())


async def test_a_race_that_is_cancelled_ends_its_ways() -> None:
    ways = _Ways()
    race = asyncio.ensure_future(
        racing.first(
            [lambda: ways.works("a", 3600.0), lambda: ways.works("b", 3600.0)],
            discard=ways.discard,
        )
    )
    await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert len(asyncio.all_tasks()) == 1


async def test_a_race_that_is_cancelled_after_it_was_won_leaves_no_result_behind() -> None:
    ways, ending = _Ways(), asyncio.Event()

    async def slow_to_end() -> str:
        try:
            await asyncio.sleep(3600.0)
        finally:
            ending.set()
            await asyncio.sleep(0.01)
        return "never"

    both = [slow_to_end, lambda: ways.works("b")]
    race = asyncio.ensure_future(racing.first(both, discard=ways.discard, stagger_s=0.0))
    await ending.wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert ways.discarded == ["b"]


async def test_an_answer_that_is_final_ends_the_race_though_others_are_left() -> None:
    tried: list[str] = []

    async def refused() -> str:
        tried.append("refused")
        raise PermissionError

    async def other() -> str:
        tried.append("other")
        return "in"

    with pytest.raises(PermissionError):
        await racing.first(
            [refused, other],
            discard=_keep,
            is_final=lambda error: isinstance(error, PermissionError),
        )
    assert tried == ["refused"]


async def _keep(_result: str) -> None:
    """Do nothing: this test never has a result to discard."""
