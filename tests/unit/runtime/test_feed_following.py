"""`Follower` resumes the change feed where it stopped; callers wait until it reaches a position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from midstreamer.domain import errors
from midstreamer.protocol.frames import Changes, Tail
from midstreamer.runtime import feed_following
from midstreamer.runtime.feed_following import AHEAD_MAX, UNKNOWN, Follower
from tests.support.fleet import eventually


class Notes:
    """A reader of the feed that records every call that `Follower` makes to it."""

    def __init__(self, ground: int = UNKNOWN) -> None:
        self.ground = ground
        self.told: list[object] = []

    async def begin(self, peer: object) -> int:
        self.told.append("begin")
        return self.ground

    async def begun(self, peer: object) -> None:
        self.told.append("begun")

    def apply(self, changes: Changes) -> None:
        self.told.append(changes.position)

    def forget(self) -> None:
        self.told.append("forget")


class Feed:
    """A fake peer whose feed sends scripted positions and raises scripted errors."""

    def __init__(self, *script: int | errors.MidstreamerError) -> None:
        self.script = list(script)
        self.tails: list[int] = []
        self.closed = False
        self.ends = asyncio.Event()
        """While set, the feed ends after its script; while clear, the feed stays open."""
        self.ends.set()

    async def follow(self, tail: Tail) -> AsyncIterator[Changes]:
        self.tails.append(tail.after)
        while self.script:
            step = self.script.pop(0)
            if isinstance(step, errors.MidstreamerError):
                raise step
            yield Changes(changes=(), position=step)
        await self.ends.wait()
        raise errors.LinkClosed("over")


async def followed(follower: Follower, feed: Feed) -> None:
    await follower.follow(feed)  # type: ignore[arg-type]  # all of a peer that is used


async def test_a_follower_begins_once_and_resumes_after_a_reconnection() -> None:
    notes = Notes()
    follower = Follower(notes)
    await followed(follower, first := Feed(3, 4))
    await followed(follower, second := Feed(5))
    assert notes.told == ["begin", 3, "begun", 4, 5]
    assert (first.tails, second.tails) == ([UNKNOWN], [4])
    assert follower.position == 5
    assert not follower.following


async def test_a_follower_starts_at_the_position_of_its_reader() -> None:
    follower = Follower(Notes(ground=8))
    await followed(follower, feed := Feed())
    assert (feed.tails, follower.position) == ([8], 8)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_follower_goes_on_over_a_move_to_another_link_and_not_over_a_loss(
    lost: bool,
) -> None:
    follower, feed = Follower(Notes()), Feed(3)
    feed.ends.clear()
    running = asyncio.ensure_future(followed(follower, feed))
    await eventually(lambda: follower.following)
    # The task is cancelled in two cases: the session moves to another link, or the link is lost.
    # The feed is closed only if the link is lost.
    feed.closed = lost
    running.cancel()
    await asyncio.wait({running})
    assert follower.following is not lost


async def test_a_slow_reader_follows_again_from_where_it_was() -> None:
    follower = Follower(Notes())
    await followed(follower, feed := Feed(3, errors.Overloaded("too slow"), 4))
    assert feed.tails == [UNKNOWN, 3]


async def test_what_was_trimmed_is_forgotten_and_begun_anew() -> None:
    notes = Notes()
    await followed(Follower(notes), feed := Feed(3, errors.Behind("trimmed"), 9))
    assert notes.told == ["begin", 3, "begun", "forget", "begin", 9, "begun"]
    assert feed.tails == [UNKNOWN, UNKNOWN]


async def test_a_wait_ends_when_the_position_is_reached() -> None:
    follower = Follower(Notes())
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(follower.reached(4, loop.time() + 60))
    await followed(follower, Feed(3))
    assert not waiting.done()
    await followed(follower, Feed(4))
    await waiting


async def test_a_position_that_does_not_come_is_behind() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(errors.Behind, match="no position yet") as raised:
        await Follower(Notes()).reached(0, loop.time())
    assert raised.value.retry_after_s > 0


async def test_a_position_that_is_far_off_is_not_waited_for() -> None:
    follower = Follower(Notes())
    await followed(follower, Feed(3))
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(errors.Behind, match="position 3 has been reached") as raised:
        await follower.reached(3 + AHEAD_MAX + 1, loop.time() + 60)
    assert loop.time() - began_s < 30
    assert raised.value.retry_after_s > 0


async def test_waits_of_one_identity_leave_room_for_those_of_others() -> None:
    follower = Follower(Notes(), waits_max=2, setting="agent.waits_max")
    soon_s = asyncio.get_running_loop().time() + 10.0
    greedy = [
        asyncio.ensure_future(follower.reached(1, soon_s, identity="client/greedy"))
        for _ in range(3)
    ]
    good = asyncio.ensure_future(follower.reached(1, soon_s, identity="client/good"))
    with pytest.raises(errors.Overloaded, match=r"greedy has 1 waits .* agent.waits_max=2"):
        await greedy[2]
    await followed(follower, Feed(1))
    await asyncio.gather(good, *greedy[:2])


async def test_a_wait_for_a_reached_position_takes_no_place() -> None:
    follower = Follower(Notes(), waits_max=1)
    await followed(follower, Feed(3))
    waiting = asyncio.ensure_future(follower.reached(4, asyncio.get_running_loop().time() + 10.0))
    await asyncio.sleep(0)
    await follower.reached(3, 0.0)
    waiting.cancel()


async def test_a_feed_that_only_fails_is_asked_again_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[int] = []

    def pause(failures: int) -> float:
        pauses.append(failures)
        return 0.0

    monkeypatch.setattr(feed_following, "pause", pause)
    trouble = [errors.Behind("trimmed")] * 3
    await followed(Follower(Notes()), Feed(3, errors.Behind("trimmed"), *trouble, 4, *trouble))
    assert pauses == [1, 2, 3, 1, 2]
