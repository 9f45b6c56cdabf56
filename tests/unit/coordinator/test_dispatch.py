"""`Dispatch`: for any order of events a request gets one answer that covers each shard once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.coordinator import dispatch, search_batches
from midstreamer.coordinator.dispatch import AttemptState, Dispatch, Limits, Outcome
from midstreamer.coordinator.dispatch_events import (
    Abandon,
    Answered,
    Asked,
    Effect,
    Event,
    Fail,
    Failed,
    Finish,
    LinkLost,
    Reported,
    Send,
    Tick,
    Withdrawn,
)
from midstreamer.domain import errors
from midstreamer.domain.errors import LocalProtocolError
from midstreamer.domain.series import Window
from midstreamer.domain.shard import Shard
from midstreamer.protocol import codec, frames
from tests.support.fleet import a_specification

SHARDS = tuple(Shard("u/s", number) for number in range(4))
FAR_S = 100.0
LIMITS = Limits(patience_s=1.0, pause_s=0.1)


def a_dispatch(**holdings: tuple[Shard, ...]) -> Dispatch:
    core = Dispatch(LIMITS)
    for agent, shards in holdings.items():
        core.handle(Reported(agent, 10, shards), 0.0)
    return core


def ask(core: Dispatch, *shards: Shard, key: int = 1, deadline_s: float = FAR_S) -> list[Send]:
    return sends(core.handle(Asked(key, shards or SHARDS, 5, deadline_s), 0.0))


def sends(effects: list[Effect]) -> list[Send]:
    assert all(isinstance(effect, Send) for effect in effects), effects
    return [effect for effect in effects if isinstance(effect, Send)]


def test_shards_are_shared_out_among_their_holders() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    asked = ask(core)
    assert sorted(len(send.shards) for send in asked) == [2, 2]
    assert {shard for send in asked for shard in send.shards} == set(SHARDS)


def test_one_attempt_asks_for_no_more_shards_than_fit_a_frame() -> None:
    many = tuple(Shard(f"u/{place:0126d}", 0) for place in range(20_000))
    core = a_dispatch(a=many, b=many)
    asked = ask(core, *many)
    assert sorted(shard for send in asked for shard in send.shards) == sorted(many)
    assert {send.agent for send in asked} == {"a", "b"}
    windows = (Window("", 0, bytes(3 * 1024 * 1024)),)
    for send in asked:
        request = frames.Search(
            specification=a_specification(), windows=windows[:0], shards=send.shards
        )
        assert len(codec.encode(request)) <= 1.1 * search_batches.SHARDS_BYTES_MAX
    fits = next(search_batches.parts(many, search_batches.room_beside(windows)))
    assert codec.encode(
        frames.Search(specification=a_specification(), windows=windows, shards=fits)
    )
    assert len(list(search_batches.parts(many, 1))) == len(many)


def test_the_least_busy_holder_is_asked() -> None:
    core = a_dispatch(a=SHARDS)
    core.handle(Reported("a", 10, SHARDS, busy=3), 0.0)
    core.handle(Reported("b", 10, SHARDS, busy=0), 0.0)
    assert [send.agent for send in ask(core, SHARDS[0])] == ["b"]


def test_a_holder_that_has_reached_the_position_comes_first() -> None:
    core = a_dispatch(b=SHARDS)
    core.handle(Reported("a", 4, SHARDS), 0.0)
    assert [send.agent for send in ask(core, SHARDS[0])] == ["b"]


def test_all_answers_together_finish_a_request() -> None:
    core = a_dispatch(a=SHARDS[:2], b=SHARDS[2:])
    first, second = ask(core)
    assert core.handle(Answered(first.attempt, "one"), 0.1) == []
    assert core.handle(Answered(second.attempt, "two"), 0.2) == [Finish(1, ("one", "two"))]
    assert core.depth == 0


@pytest.mark.parametrize(
    "error", [errors.Overloaded("full"), errors.Behind("late"), errors.KernelFailure("trap")]
)
def test_a_failure_goes_to_the_other_replica_at_once(error: errors.MidstreamerError) -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    (send,) = ask(core, SHARDS[0])
    (again,) = sends(core.handle(Failed(send.attempt, error), 0.1))
    assert again.agent != send.agent
    assert again.shards == send.shards


def test_a_lost_link_goes_to_the_other_replica_at_once() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    (send,) = ask(core, SHARDS[0])
    (again,) = sends(core.handle(LinkLost(send.agent), 0.1))
    assert again.agent != send.agent
    # The failure of the attempt on the lost link is reported later, as an event of its own. By then
    # the other agent has been asked, so this event changes nothing.
    assert core.handle(Failed(send.attempt, errors.LinkClosed("gone")), 0.2) == []


def test_when_all_holders_failed_they_are_asked_again_after_a_pause() -> None:
    core = a_dispatch(a=SHARDS)
    (send,) = ask(core, SHARDS[0])
    assert core.handle(Failed(send.attempt, errors.Overloaded("", retry_after_s=0.3)), 1.0) == []
    assert core.next_wakeup_s() == pytest.approx(1.3)
    assert core.handle(Tick(), 1.2) == []
    assert [again.agent for again in sends(core.handle(Tick(), 1.3))] == ["a"]


def test_what_no_holder_can_compute_is_told() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    trap = errors.KernelFailure("trap")
    (send,) = ask(core, SHARDS[0])
    (again,) = sends(core.handle(Failed(send.attempt, trap), 0.1))
    assert core.handle(Failed(again.attempt, trap), 0.2) == [Fail(1, trap)]


def test_bad_input_ends_the_request_at_once() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    (send,) = ask(core, SHARDS[0])
    error = errors.BadInput("no logarithm")
    assert core.handle(Failed(send.attempt, error), 0.1) == [Fail(1, error)]


def test_a_silent_agent_is_not_waited_for_and_its_late_answer_still_counts() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    (send,) = ask(core, SHARDS[0])
    assert core.next_wakeup_s() == LIMITS.patience_s
    (again,) = sends(core.handle(Tick(), 1.0))
    assert again.agent != send.agent
    ends = core.handle(Answered(send.attempt, "late"), 1.1)
    assert ends == [Abandon(again.attempt), Finish(1, ("late",))]
    assert core.handle(Answered(again.attempt, "second"), 1.2) == []


def test_a_silent_agent_is_asked_last_until_it_answers() -> None:
    core = a_dispatch(a=SHARDS, b=SHARDS)
    (send,) = ask(core, SHARDS[0])
    (again,) = sends(core.handle(Tick(), 1.0))
    assert [other.agent for other in ask(core, *SHARDS, key=2)] == [again.agent]
    core.handle(Withdrawn(2), 1.0)
    core.handle(Answered(send.attempt, "late"), 1.1)
    assert {other.agent for other in ask(core, *SHARDS, key=3)} == {"a", "b"}


def test_a_shard_that_nobody_holds_waits_for_a_holder() -> None:
    core = a_dispatch(a=SHARDS[:1])
    (send,) = ask(core, *SHARDS[:2])
    core.handle(Answered(send.attempt, "one"), 0.1)
    (late,) = sends(core.handle(Reported("b", 10, SHARDS[1:]), 5.0))
    assert late.shards == (SHARDS[1],)


def test_the_deadline_ends_a_request_and_says_what_is_missing() -> None:
    core = a_dispatch(a=SHARDS[:1])
    ask(core, *SHARDS[:2], deadline_s=0.5)
    fail, abandoned = core.handle(Tick(), 0.5)
    assert isinstance(fail, Fail)
    assert isinstance(abandoned, Abandon)
    assert isinstance(fail.error, errors.DeadlineExceeded)
    assert "no connected agent holds u/s shard 1" in fail.error.message


def test_a_withdrawn_request_is_never_answered() -> None:
    core = a_dispatch(a=SHARDS)
    (send,) = ask(core)
    assert core.handle(Withdrawn(1), 0.1) == [Abandon(send.attempt)]
    assert core.handle(Answered(send.attempt, "one"), 0.2) == []


def test_a_request_for_no_shards_is_finished_at_once() -> None:
    assert Dispatch().handle(Asked(1, (), 0, FAR_S), 0.0) == [Finish(1, ())]


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_allowed_or_refused_as_the_table_says(
    state: AttemptState, outcome: Outcome
) -> None:
    core = a_dispatch(a=SHARDS)
    (send,) = ask(core)
    attempt = core._attempts[send.attempt]
    attempt.state = state
    if outcome in dispatch.TRANSITIONS[state]:
        assert core._move(attempt, outcome) is dispatch.TRANSITIONS[state][outcome]
    else:
        with pytest.raises(LocalProtocolError, match=str(state)):
            core._move(attempt, outcome)


AGENTS = ("a", "b", "c")


class World:
    """Two requests, and three agents that join, answer, fail and vanish as Hypothesis draws."""

    def __init__(self) -> None:
        self.dispatch = Dispatch(LIMITS)
        self.now_s = 0.0
        self.open: dict[int, Send] = {}
        self.abandoned: set[int] = set()
        """Attempts that the dispatch cancelled; the agents may still answer them."""
        self.ends: dict[int, list[Effect]] = {1: [], 2: []}

    def take(self, event: Event) -> None:
        for effect in self.dispatch.handle(event, self.now_s):
            if isinstance(effect, Send):
                self.open[effect.attempt] = effect
            elif isinstance(effect, Abandon):
                self.abandoned.add(effect.attempt)
            elif isinstance(effect, Finish | Fail):
                self.ends[effect.key].append(effect)

    def step(self, data: st.DataObject) -> None:
        self.now_s += data.draw(st.sampled_from([0.0, 0.05, 0.4, 1.1]))
        kind = data.draw(st.sampled_from(["answer", "answer", "fail", "lose", "report", "tick"]))
        if kind in ("answer", "fail") and self.open:
            send = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
            error = data.draw(st.sampled_from([errors.Overloaded("o"), errors.KernelFailure("k")]))
            self.take(
                Answered(send.attempt, send.shards)
                if kind == "answer"
                else Failed(send.attempt, error)
            )
        elif kind == "lose":
            self.take(LinkLost(data.draw(st.sampled_from(AGENTS))))
        elif kind == "report":
            held = data.draw(st.lists(st.sampled_from(SHARDS), unique=True))
            self.take(Reported(data.draw(st.sampled_from(AGENTS)), 10, tuple(held)))
        else:
            self.take(Tick())


@given(data=st.data())
def test_any_order_of_events_gives_one_answer_that_covers_every_shard_once(
    data: st.DataObject,
) -> None:
    world = World()
    world.take(Asked(1, SHARDS, 5, 20.0))
    world.take(Asked(2, SHARDS[:2], 5, 20.0))
    for _ in range(data.draw(st.integers(0, 25))):
        world.step(data)
    world.now_s = 20.0
    world.take(Tick())
    assert not world.dispatch._attempts
    for key, shards in ((1, SHARDS), (2, SHARDS[:2])):
        (end,) = world.ends[key]
        if isinstance(end, Finish):
            covered = [shard for answer in end.answers for shard in answer]  # type: ignore[attr-defined]
            assert sorted(covered) == sorted(shards)
    assert world.dispatch.depth == 0
    assert {(a.asked, a.silent) for a in world.dispatch._holders.agents.values()} <= {(0, 0)}


@given(data=st.data())
def test_a_fleet_that_works_again_answers_in_the_end(data: st.DataObject) -> None:
    world = World()
    world.take(Asked(1, SHARDS, 5, 1000.0))
    for _ in range(data.draw(st.integers(0, 15))):
        world.step(data)
    if any(isinstance(end, Fail) for end in world.ends[1]):
        return  # the request failed for good, because a kernel failed on every holder
    world.take(Reported("c", 10, SHARDS))
    for _ in range(40):
        for attempt in sorted(world.open):
            world.take(Answered(attempt, world.open.pop(attempt).shards))
        world.now_s = max(world.now_s, world.dispatch.next_wakeup_s() or 0.0)
        if world.ends[1]:
            break
        world.take(Tick())
    assert [type(end) for end in world.ends[1]] == [Finish]
