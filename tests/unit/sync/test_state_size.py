"""A learning state always fits a frame: decisions that would make it too large are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from midstreamer import reasoning
from midstreamer.domain import series
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.identity import Kind
from midstreamer.protocol import codec
from midstreamer.protocol.frames import (
    FRAME_BYTES_MAX,
    Changes,
    Learned,
    Recall,
    Recalled,
    Tail,
    Written,
)
from midstreamer.store.memory import MemoryStore
from midstreamer.sync import settling
from midstreamer.sync.commit import Committer
from midstreamer.sync.config import SyncSettings
from tests.support import recomputed_states
from tests.support import store_builders as build

WIDE = msgspec.structs.replace(build.SPECIFICATION, horizon=1024)
NAMES = [f"test/s{place}" for place in range(40)]


def _decided(name: str, index: int) -> Decision:
    return build.a_decision(index, name=name, specification=WIDE)


async def _filled(store: MemoryStore) -> int:
    """Add decisions, each about a new series, until one is refused; return how many were taken."""
    committer = build.a_committer(store)
    columns = [build.a_column(0, 8, name=name) for name in NAMES]
    await build.commit(committer, build.a_write(*columns))
    for taken, name in enumerate(NAMES):
        try:
            await build.commit(committer, build.a_write(decisions=[_decided(name, 5)]))
        except BadInput:
            return taken
    raise AssertionError("no decision was refused: add more series to the test")


async def test_a_decision_that_would_let_a_state_outgrow_a_frame_is_refused() -> None:
    store = MemoryStore()
    taken = await _filled(store)
    assert taken == 12
    committer = build.a_committer(store)
    message = rf"{WIDE.stream}: .* grow to 1,\d+,\d+ B, at most 1,048,576 B .* fewer series"
    with pytest.raises(BadInput, match=message):
        await build.commit(committer, build.a_write(decisions=[_decided(NAMES[taken], 5)]))
    again = build.a_write(decisions=[_decided(name, 6) for name in NAMES[:taken]])
    await build.commit(committer, again)
    sizes = [len(state.body) for _, state in store.state_of.values()]
    assert 0.9 * settling.STATE_BYTES_MAX < max(sizes) <= settling.STATE_BYTES_MAX


async def test_ticks_are_never_refused_for_the_size_of_a_state() -> None:
    store = MemoryStore()
    taken = await _filled(store)
    committer = build.a_committer(store)
    places = range(8, 1040)
    times, values = [at * build.STEP for at in places], [build.value_at(at) for at in places]
    for name in NAMES:
        await build.commit(committer, build.a_write(series.column(name, times, values)))
    assert len(store.verdicts) == taken
    assert await recomputed_states.check(store) == []


async def test_the_largest_states_can_be_sent_and_recalled() -> None:
    store = MemoryStore()
    await _filled(store)
    await build.commit(build.a_committer(store), build.a_write(decisions=[_decided(NAMES[0], 6)]))
    ((_, kept),) = store.state_of.values()
    assert len(kept.body) > 0.9 * settling.STATE_BYTES_MAX
    async with build.a_sync(store) as fleet, asyncio.timeout(10):
        peer = await fleet.dial(Kind.COORDINATOR, "c2")
        pages = [changes async for changes in _until(store.head, peer.follow(Tail(after=0)))]
        recalled = await peer.ask(Recall(stream=kept.stream))
    assert all(len(codec.encode(frame)) < 2 * settling.STATE_BYTES_MAX for frame in pages)
    learned = [change for frame in pages for change in frame.changes if isinstance(change, Learned)]
    assert learned[-1] == Learned(*kept)
    assert isinstance(recalled, Recalled)
    assert (recalled.version, recalled.state) == (kept.version, kept.body)


async def _until(position: int, feed: AsyncIterator[Changes]) -> AsyncIterator[Changes]:
    async for changes in feed:
        yield changes
        if changes.position >= position:
            return


@pytest.mark.parametrize("after", [-1, 0])
async def test_no_follower_gets_all_states_at_once(after: int) -> None:
    store = MemoryStore()
    await _filled(store)
    ((specification, kept),) = store.state_of.values()
    for number in range(20):
        stream = f"stream {number}"
        store.state_of[stream] = (specification, kept._replace(stream=stream))
    async with build.a_sync(store) as fleet, asyncio.timeout(10):
        peer = await fleet.dial(Kind.AGENT, "a1")
        feed = peer.follow(Tail(after=after, states=False))
        pages = [changes async for changes in _until(store.head, feed)]
        unknown = await (await fleet.dial()).ask(Recall(stream="never learned"))
    assert sum(len(codec.encode(frame)) for frame in pages) < 100_000
    assert isinstance(unknown, Recalled)
    assert (unknown.version, unknown.state) == (0, b"")


async def test_a_write_that_brings_many_verdicts_gets_the_latest() -> None:
    store = MemoryStore()
    committer = Committer(store, reasoning, verdicts_max=5, streams_memory=16)
    await build.commit(committer, build.a_write(build.a_column(0, 30)))
    decided = [build.a_decision(index) for index in range(10, 30)]
    written = await build.commit(committer, build.a_write(decisions=decided))
    assert len(store.verdicts) > 5
    latest = sorted(store.verdicts.values(), key=lambda verdict: verdict.due_time)[-5:]
    assert list(written.verdicts) == latest


def test_the_most_verdicts_there_can_be_fit_a_frame() -> None:
    most = SyncSettings.model_fields["verdicts_max"].metadata[1].le
    decision = build.a_decision(5, name=f"test/{'s' * 123}")
    verdict = reasoning.judge(decision, 2.5, 2**62)
    written = Written(verdicts=(verdict,) * most, stored=2**40, repeated=2**40)
    assert len(codec.encode(written)) < 0.9 * FRAME_BYTES_MAX
