"""Learning states in a coordinator: loaded on demand, updated by the feed, bounded in bytes."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer import reasoning
from midstreamer.coordinator import states
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.service import CoordinatorService
from midstreamer.coordinator.state_requests import Recaller
from midstreamer.coordinator.states import States
from midstreamer.domain import errors
from midstreamer.domain.identity import Kind
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import (
    Answer,
    Changes,
    Frame,
    Joined,
    Learned,
    Recall,
    Recalled,
    Surveyed,
)
from midstreamer.runtime.peer import Peer, dial, listen
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import a_decision, a_specification
from tests.support.identity_builders import who

SPECIFICATION = a_specification()
STREAM = SPECIFICATION.stream


def learned(version: int, specification: Specification = SPECIFICATION) -> Learned:
    """Return the change that the feed sends after a stream has learned `version` decisions."""
    state = reasoning.initial(specification)
    for index in range(version):
        state = reasoning.learn(state, a_decision(index=40 + index))
    assert state.version == version
    return Learned(specification.stream, version, reasoning.encode(state))


ONE, TWO, THREE = learned(1), learned(2), learned(3)


def version_of(known: States, specification: Specification = SPECIFICATION) -> int | None:
    state = known.state(specification)
    return None if state is None else state.version


def recalled(*told: Learned, answer: Learned) -> States:
    """Return the cache of states after sync was asked for the state of a stream.

    First the feed sends the changes `told`, and then sync answers with `answer`.
    """
    known = States(1 << 20)
    expected = known.expect(STREAM)
    known.apply(told)
    known.recalled(expected, answer)
    return known


def test_what_nobody_asked_for_is_not_kept() -> None:
    known = States(1 << 20)
    known.apply([ONE])
    assert version_of(known) is None
    assert known.held_bytes == 0


async def test_what_was_recalled_before_the_feed_begins_anew_is_asked_for_again() -> None:
    # A feed that begins anew does not send earlier changes of states. A state that was loaded
    # before may lack these changes.
    network = MemoryNetwork()

    async def answer(peer: Peer, frame: Frame) -> Answer:
        return Surveyed(series=(), shard_points=64, position=3)

    server = await listen(MemoryCarrier(network, who(Kind.SYNC, "s1")), "s1:1", handle=answer)
    carrier = MemoryCarrier(network, who(Kind.COORDINATOR, "c1"))
    peer = await dial(carrier, "s1:1", expect=Kind.SYNC)
    service = CoordinatorService(CoordinatorSettings(), carrier)
    known, early = service._states, service._states.expect(STREAM)
    # Sync answers with ONE. Suppose that the stream learns TWO after this answer, but before the
    # feed begins. Then the feed never sends TWO, and the cache would keep ONE, which is outdated.
    # So the cache must forget ONE when the feed begins.
    known.recalled(early, ONE)
    service.apply(Changes(position=3, changes=(Joined(()),)))
    await service.begun(peer)
    assert version_of(known) is None
    await peer.close()
    await server.close()


@pytest.mark.parametrize(("changes", "answer"), [((ONE, THREE), TWO), ((ONE,), THREE), ((), THREE)])
def test_the_newer_version_counts_wherever_it_came_from(
    changes: tuple[Learned, ...], answer: Learned
) -> None:
    known = recalled(*changes, answer=answer)
    assert version_of(known) == 3
    known.apply([TWO])
    assert version_of(known) == 3


def test_a_stream_that_learned_nothing_begins_and_is_kept_current() -> None:
    known = recalled(answer=Learned(STREAM, 0, b""))
    assert version_of(known) == 0
    known.apply([ONE])
    state = known.state(SPECIFICATION)
    assert state is not None
    assert reasoning.encode(state) == ONE.state
    assert known.state(SPECIFICATION) is state


def test_an_answer_asked_for_before_changes_were_missed_is_not_believed() -> None:
    known = States(1 << 20)
    early = known.expect(STREAM)
    known.clear()
    later = known.expect(STREAM)
    known.recalled(early, ONE)
    assert version_of(known) is None
    known.recalled(later, TWO)
    assert version_of(known) == 2


def test_the_states_longest_unused_are_forgotten() -> None:
    known = States(2 * (len(ONE.state) + states.ENTRY_BYTES))
    specifications = [a_specification(window=16 + place) for place in range(3)]
    for place, specification in enumerate(specifications):
        answer = Learned(specification.stream, 0, bytes(len(ONE.state)))
        known.recalled(known.expect(specification.stream), answer)
        if place == 1:
            # This uses the first stream. So when the third stream needs room, the second one is
            # forgotten, which was not used for the longest time.
            assert version_of(known, specifications[0]) == 0
    assert [version_of(known, each) for each in specifications] == [0, None, 0]
    assert known.held_bytes == 2 * (len(ONE.state) + states.ENTRY_BYTES)


def test_streams_that_learned_nothing_take_room_too() -> None:
    known = States(1 << 20)
    for number in range(5000):
        stream = f"stream {number}"
        known.recalled(known.expect(stream), Learned(stream, 0, b""))
    assert len(known._known) == 2**20 // states.ENTRY_BYTES


class Sync:
    """A stand-in for sync that answers once the test sets `answer`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def ask(self, request: Recall) -> Answer:
        self.asked.append(request.stream)
        return await asyncio.shield(self.answer)


async def test_concurrent_needs_of_a_state_share_one_request() -> None:
    kept, sync = States(1 << 20), Sync()
    recaller = Recaller(kept, sync.ask, at_once=8)
    far_s = asyncio.get_running_loop().time() + 60
    first = asyncio.ensure_future(recaller.state(SPECIFICATION, far_s))
    second = asyncio.ensure_future(recaller.state(SPECIFICATION, far_s))
    await asyncio.sleep(0)
    first.cancel()  # the first client is gone, and the second client still waits for the state
    await asyncio.sleep(0)
    kept.apply([THREE])
    sync.answer.set_result(Recalled(stream=STREAM, version=2, state=TWO.state))
    assert (await second).version == 3
    assert (await recaller.state(SPECIFICATION, far_s)).version == 3
    assert sync.asked == [STREAM]


async def test_a_missing_state_is_an_error_within_the_deadline() -> None:
    sync = Sync()
    recaller = Recaller(States(1 << 20), sync.ask, at_once=8)
    with pytest.raises(errors.DeadlineExceeded, match="did not answer with its state"):
        await recaller.state(SPECIFICATION, asyncio.get_running_loop().time() + 0.01)
    sync.answer.set_exception(errors.StoreError("PostgreSQL is away"))
    with pytest.raises(errors.StoreError, match="away"):
        await recaller.state(SPECIFICATION, asyncio.get_running_loop().time() + 60)


async def test_closing_the_recaller_ends_requests_under_way() -> None:
    sync = Sync()
    recaller = Recaller(States(1 << 20), sync.ask, at_once=8)
    with pytest.raises(errors.DeadlineExceeded):
        await recaller.state(SPECIFICATION, asyncio.get_running_loop().time() + 0.01)
    assert "recall" in {task.get_name() for task in asyncio.all_tasks()}
    await recaller.close()
    assert "recall" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_sync_is_asked_for_a_few_states_at_a_time() -> None:
    under_way = most = 0

    async def ask(request: Recall) -> Answer:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        await asyncio.sleep(0)
        under_way -= 1
        return Recalled(position=1, stream=request.stream)

    recaller = Recaller(States(1 << 20), ask, at_once=2)
    asked = [a_specification(horizon=horizon) for horizon in range(1, 11)]
    deadline_s = asyncio.get_running_loop().time() + 5
    found = await asyncio.gather(
        *(recaller.state(specification, deadline_s) for specification in asked)
    )
    assert ([state.version for state in found], most) == ([0] * 10, 2)
