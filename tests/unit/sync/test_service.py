"""The sync process as its peers see it, over the memory carrier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import (
    BadInput,
    Behind,
    Conflict,
    MidstreamerError,
    StoreError,
    UnknownSeries,
)
from midstreamer.domain.identity import Kind
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import codec, frames
from midstreamer.protocol.frames import Changes, Joined, Learned, Member, Points, Tail, Write
from midstreamer.runtime import catalogue_pages
from midstreamer.runtime.peer import Peer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Effects, Heard, Transaction
from midstreamer.sync.writes import CLASHES_MAX
from midstreamer.telemetry import metrics
from tests.support.fleet import eventually
from tests.support.metric_values import shown
from tests.support.store_builders import (
    SPECIFICATION,
    STEP,
    Fleet,
    a_column,
    a_decision,
    a_sync,
    a_write,
    value_at,
)

JOINED = 1
"""Position of the feed after sync itself has joined the fleet."""


async def _written(peer: Peer, write: Write) -> frames.Written:
    return cast(frames.Written, await peer.ask(write))


def _follow(peer: Peer, *, after: int) -> AsyncGenerator[Changes, None]:
    return cast("AsyncGenerator[Changes, None]", peer.follow(Tail(after=after)))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with a_sync(MemoryStore()) as running:
        yield running


async def test_a_write_is_answered_with_its_position_and_verdicts(fleet: Fleet) -> None:
    peer = await fleet.dial()
    decided = await _written(peer, a_write(a_column(0, 6), decisions=[a_decision(5)]))
    settled = await _written(peer, a_write(a_column(6, 8), sequence=2))
    assert (decided.stored, decided.verdicts) == (7, ())
    assert settled.position > decided.position
    (verdict,) = settled.verdicts
    assert (verdict.time, verdict.due_time) == (5 * STEP, 7 * STEP)
    assert verdict.change == value_at(7) - value_at(5)


async def test_repeated_ticks_bring_the_same_verdicts_again(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 6), decisions=[a_decision(5)]))
    first = await _written(peer, a_write(a_column(6, 8), sequence=2))
    again = await _written(peer, a_write(a_column(6, 8), sequence=2))
    assert again.verdicts == first.verdicts
    assert (again.stored, again.repeated, again.column_repeats) == (0, 2, (2,))
    assert again.position == first.position


async def test_a_decision_that_comes_after_its_outcome_is_settled_at_once(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 20)))
    late = await _written(peer, a_write(decisions=[a_decision(5)], sequence=2))
    assert [verdict.due_time for verdict in late.verdicts] == [7 * STEP]


async def test_a_bad_write_fails_alone(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 5)))
    writes = [a_write(a_column(5, 6)), a_write(a_column(0, 1, shift=1)), a_write(a_column(6, 7))]
    answers = await asyncio.gather(*(peer.ask(write) for write in writes), return_exceptions=True)
    assert [type(answer) for answer in answers] == [frames.Written, Conflict, frames.Written]


async def test_writes_that_wait_share_a_transaction() -> None:
    store = MemoryStore()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        writes = [a_write(a_column(0, 1, name=f"test/S{at}")) for at in range(20)]
        answers = await asyncio.gather(*(_written(peer, write) for write in writes))
    assert len({answer.position for answer in answers}) < 20


async def test_a_follower_is_told_of_every_commit(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 6)))
    follower = _follow(await fleet.dial(Kind.AGENT, "a1"), after=JOINED)
    first = await anext(follower)
    assert first.changes == (Points(0, a_column(0, 6)),)
    written = await _written(peer, a_write(decisions=[a_decision(5)], sequence=2))
    second = await anext(follower)
    assert second.position == written.position
    ((stream, version),) = [(c.stream, c.version) for c in _learned(second)]
    assert (stream, version) == (a_decision(5).specification.stream, 1)
    await follower.aclose()


def _learned(changes: Changes) -> list[Learned]:
    return [change for change in changes.changes if isinstance(change, Learned)]


async def test_a_follower_from_now_begins_with_the_members_and_no_states(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 6), decisions=[a_decision(5)]))
    await peer.ask(frames.Renew(member=Member("coordinator/c1", "", "here:1")))
    follower = _follow(peer, after=-1)
    begin = await anext(follower)
    assert [type(change) for change in begin.changes] == [Joined]
    assert begin.position == JOINED + 3
    await follower.aclose()


async def test_a_follower_whose_past_is_gone_is_told_to_load_again() -> None:
    store = MemoryStore()
    async with a_sync(store, feed_memory=16) as fleet:
        peer = await fleet.dial()
        for at in range(30):
            await peer.ask(a_write(a_column(at, at + 1), sequence=at + 1))
        await store.trim(5)
        with pytest.raises(Behind, match="load again"):
            await anext(_follow(peer, after=3))


async def test_members_see_each_other_and_hear_of_changes(fleet: Fleet) -> None:
    agent, coordinator = await fleet.dial(Kind.AGENT, "a1"), await fleet.dial()
    follower = _follow(coordinator, after=JOINED)
    await agent.ask(frames.Renew(member=Member("agent/a1", "", "", 0, 7)))
    while not (page := (await anext(follower)).changes):
        pass
    (joined,) = page
    assert isinstance(joined, Joined)
    assert [(one.name, one.held) for one in joined.members] == [("agent/a1", 7), ("sync/sync-1", 0)]
    answer = await coordinator.ask(frames.Renew(member=Member("coordinator/c1", "", "x:1")))
    assert isinstance(answer, frames.Fleet)
    assert [member.name for member in answer.members] == [
        "agent/a1", "coordinator/c1", "sync/sync-1",
    ]  # fmt: skip
    await follower.aclose()


async def test_a_lease_carries_the_certified_incarnation(fleet: Fleet) -> None:
    agent = await fleet.dial(Kind.AGENT, "a1")
    answer = await agent.ask(frames.Renew(member=Member("agent/a1", "claimed", "")))
    assert isinstance(answer, frames.Fleet)
    assert answer.members[0].incarnation != "claimed"


async def test_history_is_loaded_and_surveyed(fleet: Fleet) -> None:
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 6)))
    loaded = await peer.ask(frames.Load(runs=(frames.Run("test/A", 2, 99),)))
    assert isinstance(loaded, frames.Loaded)
    assert loaded.parts == (frames.Part(a_column(2, 6), 2, 6),)
    surveyed = await peer.ask(frames.Survey())
    assert isinstance(surveyed, frames.Surveyed)
    assert [(summary.series, summary.count) for summary in surveyed.series] == [("test/A", 6)]
    with pytest.raises(UnknownSeries):
        await peer.ask(frames.Load(runs=(frames.Run("test/none", 0, 1),)))


async def test_a_catalogue_larger_than_a_frame_is_surveyed_in_pages() -> None:
    store = MemoryStore()
    names = [f"test/{place:0123d}" for place in range(20_000)]
    async with store.transaction() as writing:
        points = [(0, a_column(0, 1, name=name)) for name in names]
        await writing.apply(Effects(points=points))
    async with a_sync(store) as fleet:
        peer = await fleet.dial(Kind.AGENT, "a1")
        pages = [page async for page in catalogue_pages.pages(catalogue_pages.by(peer, 10.0))]
    assert [summary.series for page in pages for summary in page.series] == names
    assert [page.ticks for page in pages] == [len(names), *([0] * (len(pages) - 1))]
    assert max(len(codec.encode(page)) for page in pages) <= 1.1 * catalogue_pages.PAGE_BYTES


async def test_experiences_can_be_looked_up(fleet: Fleet) -> None:
    peer = await fleet.dial()
    decision = a_decision(5)
    written = await _written(peer, a_write(a_column(0, 8), decisions=[decision]))
    found = await peer.ask(frames.Lookup(experience_ids=(decision.experience_id,)))
    assert isinstance(found, frames.Experiences)
    assert (found.decisions, found.verdicts) == ((decision,), written.verdicts)


async def test_without_a_store_it_stays_alive_and_says_why() -> None:
    store = MemoryStore()
    store.away = "PostgreSQL: the connection was lost"
    async with a_sync(store, wait=False) as fleet:
        peer = await fleet.dial()
        assert fleet.service.complete_reasons() == ["store: PostgreSQL: the connection was lost"]
        with pytest.raises(StoreError, match="connection was lost") as caught:
            await peer.ask(frames.Survey())
        assert caught.value.retry_after_s > 0


async def test_it_works_again_when_the_store_is_back() -> None:
    store = MemoryStore()
    async with a_sync(store, lease_s=0.03) as fleet:
        peer = await fleet.dial()
        assert fleet.service.complete_reasons() == []
        store.away = "PostgreSQL: the connection was lost"
        with pytest.raises(StoreError):
            await peer.ask(a_write(a_column(0, 5)))
        assert fleet.service.complete_reasons() != []
        store.away = ""
        assert (await _written(peer, a_write(a_column(0, 5)))).stored == 5
        # A background task of sync notices that the store works again.
        await eventually(lambda: not fleet.service.complete_reasons())


async def test_writes_beyond_the_queue_are_refused_early() -> None:
    async with a_sync(MemoryStore(), queue_writes_max=2) as fleet:
        peer = await fleet.dial()
        writes = [a_write(a_column(0, 1, name=f"test/S{at}")) for at in range(50)]
        answers = await asyncio.gather(
            *(peer.ask(write) for write in writes), return_exceptions=True
        )
    refused = [str(answer) for answer in answers if isinstance(answer, Exception)]
    assert refused
    assert all("queue_writes_max is 2" in message for message in refused)


class _Slow(MemoryStore):
    """A store whose transactions take long."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        await asyncio.sleep(0.005)
        async with super().transaction() as writing:
            yield writing


async def test_a_coordinator_with_a_long_queue_delays_no_other() -> None:
    async with a_sync(_Slow(), batch_rows=10, queue_writes_max=200) as fleet:
        greedy, good = await fleet.dial(), await fleet.dial(Kind.COORDINATOR, "good")
        writes = [a_write(a_column(0, 10, name=f"test/S{at}"), sequence=at) for at in range(80)]
        asked = [asyncio.ensure_future(greedy.ask(write)) for write in writes]
        await eventually(lambda: fleet.service._writes.depth > 50)
        await good.ask(a_write(a_column(0, 1, name="test/mine")))
        answered = sum(task.done() for task in asked)
        await asyncio.gather(*asked)
    assert answered < 40


class _Stuck(MemoryStore):
    """A store that never answers a lookup of experiences."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = 0

    async def experiences(
        self, experience_ids: Sequence[bytes]
    ) -> tuple[list[Decision], list[Verdict]]:
        self.reading += 1
        await asyncio.get_running_loop().create_future()
        raise AssertionError(experience_ids)


async def test_reads_of_one_peer_leave_connections_to_others() -> None:
    store = _Stuck()
    async with a_sync(store, connections=7) as fleet:
        lookup = frames.Lookup(experience_ids=(b"x",))
        greedy, good = await fleet.dial(), await fleet.dial(Kind.COORDINATOR, "good")
        asked = [asyncio.ensure_future(greedy.ask(lookup)) for _ in range(20)]
        # Other peers are still answered while this peer's lookups wait.
        await good.ask(frames.Survey())
        assert (store.reading, fleet.service._reads.waiting) == (2, 18)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)


class _Objecting(MemoryStore):
    """A store whose transactions raise the given errors, each once."""

    def __init__(self, *errors: StoreError) -> None:
        super().__init__()
        self._errors = list(errors)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as writing:
            if self._errors:
                raise self._errors.pop()
            yield writing


def _commits() -> list[float]:
    return [shown(metrics.COMMITS, result=each) for each in ("committed", "clashed", "failed")]


def _gained(before: list[float]) -> list[float]:
    return [after - earlier for after, earlier in zip(_commits(), before, strict=True)]


async def test_a_clash_of_transactions_is_tried_again_unseen_and_counted() -> None:
    store, before = _Objecting(StoreError("learned elsewhere", retry_after_s=0.05)), _commits()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        assert (await _written(peer, a_write(a_column(0, 5)))).stored == 5
        assert fleet.service.complete_reasons() == []
    assert _gained(before) == [1, 1, 0]


async def test_clashes_without_end_are_a_refusal_and_each_is_counted() -> None:
    clashes = [StoreError("learned elsewhere", retry_after_s=0.05) for _ in range(CLASHES_MAX)]
    store, before = _Objecting(*clashes), _commits()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        with pytest.raises(StoreError, match="learned elsewhere"):
            await _written(peer, a_write(a_column(0, 5)))
    assert _gained(before) == [0, CLASHES_MAX, 0]


async def test_an_objection_of_postgresql_is_a_failed_commit() -> None:
    store, before = _Objecting(StoreError("it refused (23505)")), _commits()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        with pytest.raises(StoreError, match="it refused"):
            await _written(peer, a_write(a_column(0, 5)))
    assert _gained(before) == [0, 0, 1]


async def test_ticks_are_counted_by_whether_they_were_there_before(fleet: Fleet) -> None:
    def ticks() -> tuple[float, float]:
        return shown(metrics.TICKS, result="stored"), shown(metrics.TICKS, result="repeated")

    peer = await fleet.dial()
    stored, repeated = ticks()
    await _written(peer, a_write(a_column(0, 5)))
    await _written(peer, a_write(a_column(3, 9), sequence=2))
    assert ticks() == (stored + 9, repeated + 2)


async def test_when_postgresql_objects_to_a_batch_its_writes_are_tried_singly() -> None:
    refusals = [StoreError("it refused (23505)") for _ in range(2)]
    async with a_sync(_Objecting(*refusals)) as fleet:
        peer = await fleet.dial()
        writes = [a_write(a_column(0, 1, name=f"test/S{at}")) for at in range(4)]
        answers = await asyncio.gather(
            *(peer.ask(write) for write in writes), return_exceptions=True
        )
    # The first write is a batch of its own. Its transaction raises an error, so this write fails.
    # The other three writes are one batch. Its transaction raises the second error, so these three
    # writes are committed one by one, and succeed.
    kinds = [type(answer) for answer in answers]
    assert kinds.count(frames.Written) >= 2
    assert {type(answer) for answer in answers if isinstance(answer, Exception)} <= {StoreError}


async def test_a_follower_far_behind_reads_from_the_store() -> None:
    async with a_sync(MemoryStore(), feed_memory=16) as fleet:
        peer = await fleet.dial()
        for at in range(100):
            await peer.ask(a_write(a_column(at, at + 1), sequence=at + 1))
        starts: list[int] = []
        follower = _follow(peer, after=0)
        while len(starts) < 100:
            page = await anext(follower)
            starts += [change.start for change in page.changes if isinstance(change, Points)]
        await follower.aclose()
    assert starts == list(range(100))


async def test_a_mistake_of_ours_is_an_error_for_one_write_and_no_end() -> None:
    store = MemoryStore()
    async with a_sync(store) as fleet:
        peer = await fleet.dial()
        store.series = None  # type: ignore[assignment]
        with pytest.raises(MidstreamerError, match="could not commit the Write"):
            await peer.ask(a_write(a_column(0, 5)))
        store.series = {}
        assert (await _written(peer, a_write(a_column(0, 5)))).stored == 5


async def test_a_member_that_leaves_is_gone_at_once(fleet: Fleet) -> None:
    agent = await fleet.dial(Kind.AGENT, "a1")
    await agent.ask(frames.Renew(member=Member("", "", "")))
    answer = await agent.ask(frames.Renew(member=Member("", "", ""), leaving=True))
    assert isinstance(answer, frames.Fleet)
    assert [member.name for member in answer.members] == ["sync/sync-1"]


async def test_too_many_experiences_at_once_are_refused(fleet: Fleet) -> None:
    peer = await fleet.dial()
    with pytest.raises(BadInput, match="ask for fewer"):
        await peer.ask(frames.Lookup(experience_ids=tuple([b"x"] * 257)))


async def test_a_lookup_of_large_experiences_is_answered_in_parts(fleet: Fleet) -> None:
    wide = msgspec.structs.replace(SPECIFICATION, window=4096)
    peer = await fleet.dial()
    await peer.ask(a_write(a_column(0, 4250)))
    decisions = [a_decision(at, specification=wide) for at in range(4100, 4250)]
    for at in range(0, 150, 50):
        await peer.ask(a_write(decisions=decisions[at : at + 50]))
    ids, rounds = [*(decision.experience_id for decision in decisions), b"unknown"], 0
    received: list[Decision] = []
    while ids:
        found = await peer.ask(frames.Lookup(experience_ids=tuple(ids)))
        assert isinstance(found, frames.Experiences)
        assert len(codec.encode(found)) < 0.6 * frames.FRAME_BYTES_MAX
        received += found.decisions
        ids, rounds = list(found.left), rounds + 1
    assert sorted(received, key=lambda decision: decision.time) == decisions
    assert rounds == 3


class _Deaf(MemoryStore):
    """A store that has no connection left to listen for notifications."""

    async def watch(self, heard: Heard, *, period_s: float) -> None:
        raise StoreError("it has no connection left", retry_after_s=1.0)


async def test_a_sync_that_cannot_listen_polls_and_is_ready_all_the_same() -> None:
    store = _Deaf()
    async with a_sync(store) as fleet:
        follower = _follow(await fleet.dial(Kind.AGENT, "a1"), after=JOINED)
        assert (await anext(follower)).changes == ()
        store.publish([Joined(())])  # as if another sync had committed the change
        assert (await anext(follower)).changes == (Joined(()),)
        assert fleet.service.complete_reasons() == []
        await follower.aclose()
