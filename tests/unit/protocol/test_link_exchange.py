"""The requests on a link: numbers, budgets, bounds, Cancel and Drain, for any order of events."""

import itertools
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from midstreamer.domain import errors
from midstreamer.domain.errors import LinkClosed, LocalProtocolError
from midstreamer.protocol import capabilities, frames, link_exchange, request_states
from midstreamer.protocol.link_exchange import Exchange
from midstreamer.protocol.request_states import Draining
from tests.support.link_builders import AGENT, CLIENT, COORDINATOR, SYNC, holdings

TABLES: dict[str, tuple[type[StrEnum], type[StrEnum], Mapping[Any, Mapping[Any, Any]]]] = {
    "asked": (request_states.Asked, request_states.AskedEvent, request_states.ASKED_TRANSITIONS),
    "taken": (request_states.Taken, request_states.TakenEvent, request_states.TAKEN_TRANSITIONS),
    "draining": (
        request_states.Draining,
        request_states.DrainEvent,
        request_states.DRAIN_TRANSITIONS,
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_event_in_every_state_is_in_the_table_or_refused_by_name(name: str) -> None:
    states, events, table = TABLES[name]
    assert set(table) == set(states)
    for state, event in itertools.product(states, events):
        after = table[state].get(event)
        if after is not None:
            assert request_states.moved(table, state, event) is after
            continue
        with pytest.raises(LocalProtocolError, match=str(state)):
            request_states.moved(table, state, event)


def a_client(**settings: int) -> Exchange:
    return Exchange(CLIENT, COORDINATOR, capabilities.OURS, **settings)


def a_server(**settings: int) -> Exchange:
    return Exchange(COORDINATOR, CLIENT, capabilities.OURS, **settings)


def sent(effects: list[request_states.Effect]) -> list[frames.Frame]:
    return [effect.frame for effect in effects if isinstance(effect, request_states.Send)]


def test_a_request_ends_with_its_answer_and_a_late_one_is_dropped() -> None:
    near = a_client()
    request = near.ask(frames.Survey(), 0.0, budget_s=1.0)
    answer = frames.Surveyed(request=request.request)
    assert near.take(answer, 0.1) == [request_states.Resolve(request.request, answer)]
    assert near.take(answer, 0.1) == []
    assert not near.busy


def test_leaving_a_request_cancels_its_work_without_an_answer() -> None:
    near, far = a_client(), a_server()
    request = near.ask(frames.Survey(), 0.0, budget_s=1.0)
    assert far.take(request, 0.0) == [request_states.Begin(request)]
    (cancel,) = sent(near.leave(request.request))
    assert far.take(cancel, 0.1) == [request_states.Stop(request)]
    assert far.take(cancel, 0.1) == []  # a second Cancel changes nothing
    assert far.worked(request.request, frames.Surveyed()) == []
    assert (near.asked, far.taken) == (0, 0)


def test_both_sides_learn_that_a_budget_is_over() -> None:
    near, far = a_client(), a_server()
    request = near.ask(frames.Survey(), 0.0, budget_s=1.0)
    far.take(request, 0.0)
    failed, cancel = near.tick(near.next_wakeup_s())
    assert isinstance(failed, request_states.Fail)
    assert isinstance(failed.error, errors.DeadlineExceeded)
    assert sent([cancel]) == [frames.Cancel(request.request)]
    assert far.tick(1.0) == [request_states.Stop(request)]
    (answer,) = sent(far.worked(request.request, None))
    assert isinstance(answer, frames.Failure)
    assert answer.code == "deadline"


def test_a_budget_that_is_not_a_number_is_over_at_once() -> None:
    near = a_client()
    first = near.ask(frames.Survey(), 0.0, budget_s=math.nan)
    near.ask(frames.Survey(), 0.0, budget_s=math.inf)
    near.ask(frames.Survey(), 0.0, budget_s=1.0)
    (failed, _) = near.tick(0.5)
    assert isinstance(failed, request_states.Fail)
    assert failed.number == first.request
    assert near.next_wakeup_s() == 1.0


def test_a_peer_that_does_not_know_cancel_gets_none() -> None:
    near = Exchange(CLIENT, COORDINATOR)
    request = near.ask(frames.Survey(), 0.0, budget_s=1.0)
    assert near.leave(request.request) == []


def test_a_request_that_was_not_sent_is_not_cancelled() -> None:
    near = a_client()
    request = near.ask(frames.Survey(), 0.0, budget_s=1.0)
    assert near.leave(request.request, sent=False) == []


@pytest.mark.parametrize("number", [0, 1, 7, -1, 2**63])
def test_a_cancel_for_an_unknown_number_is_ignored(number: int) -> None:
    far = a_server()
    for _ in range(1000):
        assert far.take(frames.Cancel(number), 0.0) == []
    assert (far.taken, far.next_wakeup_s()) == (0, math.inf)


def test_what_changes_the_store_goes_on_after_a_cancel_and_is_not_answered() -> None:
    far = a_server()
    append = frames.Append(request=1, budget_s=2.0, columns=())
    far.take(append, 0.0)
    assert far.take(frames.Cancel(1), 0.1) == []
    assert far.busy
    # An Append changes the store, so a Cancel does not stop it. The end of its budget does.
    assert far.tick(2.0) == [request_states.Stop(append)]
    assert far.worked(1, None) == []


def test_a_number_that_is_under_way_is_refused_by_name() -> None:
    far = a_server()
    far.take(frames.Survey(request=5), 0.0)
    (refusal,) = sent(far.take(frames.Survey(request=5), 0.0))
    assert isinstance(refusal, frames.Failure)
    assert (refusal.request, refusal.code) == (5, "bad_input")
    assert far.taken == 1


def test_more_than_may_be_under_way_is_refused_early() -> None:
    far = a_server(in_flight_max=2)
    taken = [far.take(frames.Survey(request=number), 0.0) for number in (1, 2, 3)]
    (refusal,) = sent(taken[2])
    assert isinstance(refusal, frames.Failure)
    assert refusal.code == "overloaded"
    assert refusal.retry_after_s > 0


def test_what_its_sender_may_not_send_changes_nothing() -> None:
    far = a_server()
    wrong = frames.Recall(stream="s", request=1)
    assert isinstance(far.take(wrong, 0.0)[0], request_states.Breach)
    assert isinstance(far.take(wrong, 0.0)[0], request_states.Breach)
    assert not far.busy


def test_a_statement_is_handed_out_as_often_as_it_is_offered() -> None:
    far = Exchange(COORDINATOR, AGENT)
    assert [far.take(holdings(1), 0.0) for _ in range(2)] == [
        [request_states.Statement(holdings(1))]
    ] * 2


def test_deadlines_of_requests_that_ended_do_not_pile_up() -> None:
    near = a_client()
    for _ in range(10_000):
        near.leave(near.ask(frames.Survey(), 0.0, budget_s=1e6).request)
    assert len(near._deadlines) <= 2 * link_exchange.STALE_MAX


def test_an_old_deadline_of_a_number_does_not_end_its_next_request() -> None:
    far = a_server()
    far.take(frames.Survey(request=1, budget_s=1.0), 0.0)
    far.worked(1, frames.Surveyed())
    far.take(frames.Survey(request=1, budget_s=9.0), 0.5)
    assert far.tick(1.0) == []
    assert far.taken == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_budget_is_over_once_though_a_number_was_used_again(cancelled: bool) -> None:
    far = a_server()
    far.take(frames.Append(request=5, budget_s=1.0, columns=()), 0.0)
    far.worked(5, frames.Surveyed())
    again = frames.Append(request=5, budget_s=0.4, columns=())
    far.take(again, 0.5)
    if cancelled:
        far.take(frames.Cancel(5), 0.6)
    # Both requests have the number 5. The first was answered before its deadline, 1.0 s. The
    # deadline of the second is 0.9 s. At 1.1 s both deadlines have passed, but only the second
    # request is stopped, and only once.
    assert far.tick(1.1) == [request_states.Stop(again)]
    assert far.tick(9.0) == []


def test_a_tail_that_is_not_read_fails_and_is_cancelled() -> None:
    near = Exchange(AGENT, SYNC, capabilities.OURS, follow_max=2)
    number = near.ask(frames.Tail(after=0), 0.0, budget_s=0.0).request
    changes = frames.Changes(request=number, changes=())
    effects = [near.take(changes, 0.0) for _ in range(3)]
    assert effects[:2] == [[request_states.Tell(number, changes)]] * 2
    failed, cancel = effects[2]
    assert isinstance(failed, request_states.Fail)
    assert isinstance(failed.error, errors.Overloaded)
    assert sent([cancel]) == [frames.Cancel(number)]


def test_following_does_not_make_a_link_busy() -> None:
    near, far = Exchange(AGENT, SYNC, capabilities.OURS), Exchange(SYNC, AGENT, capabilities.OURS)
    far.take(near.ask(frames.Tail(after=0), 0.0, budget_s=0.0), 0.0)
    assert (near.asked, far.taken) == (1, 1)
    assert (near.busy, far.busy) == (False, False)


def test_a_link_that_drains_answers_what_is_under_way_and_then_settles() -> None:
    near, far = a_client(), a_server()
    request = near.ask(frames.Survey(), 0.0, budget_s=9.0)
    far.take(request, 0.0)
    (drain,) = sent(far.drain(leaving=True))
    (reply, heard) = near.take(drain, 0.0)
    assert isinstance(heard, request_states.Heard)
    assert (near.heard, near.leaving) == (True, True)
    assert far.take(sent([reply])[0], 0.0) == [request_states.Heard()]
    answer, settled = far.worked(request.request, frames.Surveyed())
    assert settled == request_states.Settled()
    assert request_states.Settled() in near.take(sent([answer])[0], 0.0)


def test_no_request_is_sent_after_drain_came() -> None:
    near = a_client()
    near.take(frames.Drain(), 0.0)
    with pytest.raises(LinkClosed, match="no more requests") as caught:
        near.ask(frames.Survey(), 0.0, budget_s=1.0)
    assert caught.value.retry_after_s > 0
    assert near.asked == 0


def test_drain_is_sent_once_and_again_when_the_process_stops() -> None:
    near = a_client()
    drains = [near.drain(leaving=leaving) for leaving in (False, False, True, True, False)]
    assert [sent(effects) for effects in drains] == [
        [frames.Drain()],
        [],
        [frames.Drain(leaving=True)],
        [],
        [],
    ]


def test_a_peer_of_the_version_before_is_told_nothing_and_settles_when_quiet() -> None:
    near = Exchange(CLIENT, COORDINATOR)
    request = near.ask(frames.Survey(), 0.0, budget_s=9.0)
    assert near.drain() == []
    effects = near.take(frames.Surveyed(request=request.request), 0.0)
    assert request_states.Settled() in effects


def test_what_a_peer_does_not_know_is_refused_without_being_sent() -> None:
    near = Exchange(CLIENT, COORDINATOR)
    with pytest.raises(errors.Unsupported, match=r"coordinator/c1 does not know Retire"):
        near.ask(frames.Retire(name="agent/a1"), 0.0, budget_s=1.0)
    assert near.asked == 0


def test_capabilities_of_a_peer_lift_no_bound() -> None:
    for named in ((), capabilities.OURS, ("anything",)):
        far = Exchange(COORDINATOR, CLIENT, named, in_flight_max=1)
        far.take(frames.Survey(request=1, budget_s=math.inf), 0.0)
        assert far.next_wakeup_s() <= link_exchange.BUDGET_S_MAX
        (refusal,) = sent(far.take(frames.Survey(request=2), 0.0))
        assert isinstance(refusal, frames.Failure)
        assert isinstance(far.take(frames.Recall(stream="s"), 0.0)[0], request_states.Breach)


def test_an_unknown_request_is_answered_by_name_and_all_else_is_skipped() -> None:
    far = a_server()
    skipped, answer = far.take(frames.Unknown("Wish", 7), 0.0)
    assert skipped == request_states.Skip("Wish")
    (refusal,) = sent([answer])
    assert isinstance(refusal, frames.Failure)
    assert (refusal.request, refusal.code, refusal.retry_after_s) == (7, "unsupported", 0.0)
    assert "Wish" in refusal.message
    assert far.take(frames.Unknown("Hint"), 0.0) == [request_states.Skip("Hint")]
    assert not far.busy


# tests with any order of events


class _Both(RuleBasedStateMachine):
    """A client and a coordinator, with a queue of frames in each direction between them."""

    works: Bundle[int] = Bundle("works")
    waits: Bundle[int] = Bundle("waits")

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = a_client(), a_server(in_flight_max=3)
        self.to_far: list[frames.Frame] = []
        self.to_near: list[frames.Frame] = []
        self.now_s = 0.0
        self.numbers: list[int] = []
        self.outcomes: dict[int, int] = {}
        self.working: set[int] = set()
        self.answers: list[int] = []
        self.ended = False

    def near_does(self, effects: list[request_states.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, request_states.Send):
                self.to_far.append(effect.frame)
            elif isinstance(effect, request_states.Resolve | request_states.Fail):
                self.outcomes[effect.number] = self.outcomes.get(effect.number, 0) + 1

    def far_does(self, effects: list[request_states.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, request_states.Send):
                self.to_near.append(effect.frame)
                if isinstance(effect.frame, frames.Answer):
                    self.answers.append(effect.frame.request)
            elif isinstance(effect, request_states.Begin):
                assert effect.request.request not in self.working
                self.working.add(effect.request.request)
            elif isinstance(effect, request_states.Stop):
                assert effect.request.request in self.working

    @rule(target=waits, budget_s=st.floats(0, 5), appends=st.booleans())
    def ask(self, budget_s: float, appends: bool) -> int:
        frame = frames.Append(columns=()) if appends else frames.Survey()
        if self.near.heard or self.ended:
            return 0
        request = self.near.ask(frame, self.now_s, budget_s=budget_s)
        self.numbers.append(request.request)
        self.to_far.append(request)
        return request.request

    @rule(number=consumes(waits))
    def leave(self, number: int) -> None:
        self.near_does(self.near.leave(number))

    @rule(count=st.integers(1, 4))
    def arrive(self, count: int) -> None:
        for _ in range(count):
            if self.to_far and not self.ended:
                self.far_does(self.far.take(self.to_far.pop(0), self.now_s))
            if self.to_near and not self.ended:
                self.near_does(self.near.take(self.to_near.pop(0), self.now_s))

    @rule(answered=st.booleans(), place=st.integers(0, 9))
    def finish(self, answered: bool, place: int) -> None:
        if self.working:
            number = sorted(self.working)[place % len(self.working)]
            self.working.discard(number)
            self.far_does(self.far.worked(number, frames.Surveyed() if answered else None))

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.near_does(self.near.tick(self.now_s))
        self.far_does(self.far.tick(self.now_s))

    @rule(far=st.booleans(), leaving=st.booleans())
    def drain(self, far: bool, leaving: bool) -> None:
        if not self.ended:
            side, does = (self.far, self.far_does) if far else (self.near, self.near_does)
            does(side.drain(leaving=leaving))

    @rule()
    def end(self) -> None:
        self.ended = True
        self.to_far.clear()
        self.to_near.clear()
        self.near_does(self.near.end("cut"))
        self.far_does(self.far.end("cut"))

    @invariant()
    def bounds_hold(self) -> None:
        assert self.far.taken <= 3
        assert self.far.taken == len(self.working)
        assert len(self.numbers) == len(set(self.numbers))
        assert all(count == 1 for count in self.outcomes.values())
        assert len(self.answers) == len(set(self.answers))
        if self.near.state is Draining.SETTLED:
            assert not self.near.busy

    def teardown(self) -> None:
        """Deliver all frames and finish all work; check that no request is in progress then."""
        while self.to_far or self.to_near:
            self.arrive(1)
        for number in sorted(self.working):
            self.far_does(self.far.worked(number, None))
        self.working.clear()
        self.now_s = max(self.now_s + link_exchange.BUDGET_S_MAX, self.now_s)
        self.wait(0.0)
        assert (self.near.asked, self.far.taken) == (0, 0)
        assert math.isinf(self.near.next_wakeup_s())


TestAnyOrder = _Both.TestCase


@given(st.lists(st.tuples(st.sampled_from(["in", "drain", "hear", "out"]), st.booleans())))
def test_a_link_settles_only_when_both_said_drain_and_nothing_is_under_way(
    steps: list[tuple[str, bool]],
) -> None:
    far, number = a_server(), 0
    for step, flag in steps:
        if step == "in" and not far.heard:
            number += 1
            far.take(frames.Survey(request=number), 0.0)
        elif step == "drain":
            far.drain(leaving=flag)
        elif step == "hear":
            far.take(frames.Drain(leaving=flag), 0.0)
        elif step == "out" and number:
            far.worked(number, None)
        if far.state is Draining.SETTLED:
            assert far.said
            assert far.heard
            assert not far.busy


def test_a_trace_that_is_too_long_is_not_kept_with_its_request() -> None:
    # A request keeps its trace while it waits, maybe for minutes. 256 requests with traces of 4 MB
    # would take 1 GB. So a trace that is too long is dropped.
    far = a_server()
    long = frames.Survey(request=1, trace="x" * (link_exchange.TRACE_CHARACTERS_MAX + 1))
    fits = frames.Survey(request=2, trace="x" * link_exchange.TRACE_CHARACTERS_MAX)
    assert far.take(long, 0.0) == [request_states.Begin(frames.Survey(request=1))]
    assert far.take(fits, 0.0) == [request_states.Begin(fits)]


def test_drain_that_says_nothing_new_has_no_effect() -> None:
    far = a_server()
    assert request_states.Heard() in far.take(frames.Drain(), 0.0)
    assert far.take(frames.Drain(), 0.0) == []
    assert request_states.Heard() in far.take(frames.Drain(leaving=True), 0.0)
    assert far.take(frames.Drain(), 0.0) == []
