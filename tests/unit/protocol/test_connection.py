"""The state machine of a connection: its handshake, its refusals, every event in every state."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import LinkClosed, LocalProtocolError
from midstreamer.protocol import codec, connection, frames
from midstreamer.protocol.connection import (
    BULK_STREAM,
    CONTROL_STREAM,
    TRANSITIONS,
    Code,
    Connection,
    Side,
    State,
)
from midstreamer.protocol.connection_effects import Deliver, Finish, Opened, Transmit
from tests.support.link_builders import AGENT, COORDINATOR, Pair, delivered, holdings

EVENTS: list[connection.Event] = [
    connection.Dialled(),
    connection.Accepted(),
    connection.HandshakeReceived("i1", frozenset()),
    connection.HandshakeAccepted(frames.AssignedStreams(CONTROL_STREAM, BULK_STREAM), frozenset()),
    connection.FrameReceived(holdings(1), 10),
    connection.RefusalReceived("expired", "yesterday"),
    connection.RuleBroken(Code.MALFORMED, "no frame"),
    connection.HandshakeTimedOut(),
    connection.ClosedHere("", ""),
    connection.CarrierEnded("", ""),
]


def in_state(state: State) -> Connection:
    machine = Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT)
    machine.state = state
    return machine


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, EVENTS)))
def test_every_event_in_every_state_is_foreseen(state: State, event: connection.Event) -> None:
    machine = in_state(state)
    after = TRANSITIONS[state].get(type(event))
    if after is None and not isinstance(event, connection.FROM_PEER):
        with pytest.raises(LocalProtocolError):
            machine.handle(event)
        assert machine.state is state
        return
    if state is State.NEW and isinstance(event, connection.FROM_PEER):
        with pytest.raises(LocalProtocolError):
            machine.handle(event)  # a connection that was not started cannot receive a frame
        return
    effects = machine.handle(event)
    assert machine.state is (after or State.CLOSED)
    finished = [effect for effect in effects if isinstance(effect, Finish)]
    assert len(finished) == (machine.state is State.CLOSED and state is not State.CLOSED)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_any_order_of_events_finishes_at_most_once_and_delivers_only_while_open(
    events: list[connection.Event],
) -> None:
    machine, finished = in_state(State.NEW), 0
    for event in events:
        before = machine.state
        try:
            effects = machine.handle(event)
        except LocalProtocolError:
            assert machine.state is before
            continue
        finished += sum(isinstance(effect, Finish) for effect in effects)
        if any(isinstance(effect, Deliver) for effect in effects):
            assert before is State.OPEN
    assert finished <= 1


def test_the_dialling_side_speaks_first_and_both_open() -> None:
    pair = Pair()
    pair.far.start(0.0)
    greeting = pair.near.start(0.0)
    answers = pair.pass_on(greeting, pair.far)
    assert Opened("i1") in answers
    assert any(isinstance(effect, Opened) for effect in pair.pass_on(answers, pair.near))
    assert pair.near.state is pair.far.state is State.OPEN
    assert pair.far.peer_incarnation == "i1"


def test_frames_flow_both_ways_on_both_streams() -> None:
    pair = Pair().open()
    for source, target in ((pair.near, pair.far), (pair.far, pair.near)):
        for bulk in (False, True):
            sent = source.send(holdings(7), bulk=bulk)
            assert delivered(pair.pass_on(sent, target)) == [holdings(7)]


def test_bulk_frames_wait_until_the_dialling_side_has_opened_the_stream() -> None:
    pair = Pair()
    pair.far.start(0.0)
    answers = pair.pass_on(pair.near.start(0.0), pair.far)
    assert pair.far.send(holdings(1), bulk=True) == []
    assert pair.far.held_bytes > 0
    released = pair.pass_on(pair.pass_on(answers, pair.near), pair.far)
    assert delivered(pair.pass_on(released, pair.near)) == [holdings(1)]
    assert pair.far.held_bytes == 0


def refusal_of(frame: frames.Frame | bytes, *, machine: Connection | None = None) -> Finish:
    """Return how the accepting side ends the connection after an invalid first frame."""
    if machine is None:
        machine = Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT)
        machine.start(0.0)
    data = frame if isinstance(frame, bytes) else codec.encode(frame)
    effects = machine.receive(CONTROL_STREAM, data)
    refusal, finish = effects[-2:]
    assert isinstance(refusal, Transmit)
    assert isinstance(finish, Finish)
    sent = codec.decode(refusal.data[codec.HEAD_BYTES :])
    assert sent == frames.Refusal(finish.code, finish.message)
    assert machine.closed
    return finish


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (frames.AgentHandshake("a1", "agent", 99), Code.VERSION),
        (frames.AgentHandshake("a2", "agent", frames.VERSION), Code.CLAIM_MISMATCH),
        (frames.AgentHandshake("a1", "coordinator", frames.VERSION), Code.CLAIM_MISMATCH),
        (holdings(1), Code.UNEXPECTED),
        (b"\x00\x00\x00\x03abc", Code.MALFORMED),
        (b"GET / HTTP/1.1\r\n", Code.TOO_LARGE),
        ((100 * 1024 * 1024).to_bytes(4, "big"), Code.TOO_LARGE),
    ],
)
def test_a_first_frame_out_of_order_is_refused_by_name(
    first: frames.Frame | bytes, code: Code
) -> None:
    assert refusal_of(first).code == code


def test_a_second_handshake_is_refused() -> None:
    again = frames.AgentHandshake("a1", "agent", frames.VERSION)
    assert refusal_of(again, machine=Pair().open().far).code == Code.UNEXPECTED


def test_a_frame_of_100_mb_is_refused_by_its_length_alone() -> None:
    machine = Pair().open().far
    finish = refusal_of((100 * 1024 * 1024).to_bytes(4, "big"), machine=machine)
    assert finish.code == Code.TOO_LARGE
    assert "104,857,600" in finish.message


def test_data_on_a_stream_that_was_not_assigned_is_refused() -> None:
    effects = Pair().open().far.receive(8, b"anything")
    assert [effect.code for effect in effects if isinstance(effect, Finish)] == [
        Code.UNKNOWN_STREAM
    ]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (frames.CoordinatorAck("c2", frames.AssignedStreams(0, 4)), Code.CLAIM_MISMATCH),
        (frames.CoordinatorAck("c1", frames.AssignedStreams(0, 4), version=99), Code.VERSION),
        (frames.CoordinatorAck("c1", frames.AssignedStreams(0, 1)), Code.UNKNOWN_STREAM),
        (frames.CoordinatorAck("c1", frames.AssignedStreams(0, 0)), Code.UNKNOWN_STREAM),
    ],
)
def test_the_dialling_side_judges_the_answer_too(answer: frames.Frame, code: Code) -> None:
    machine = Connection(Side.DIALLED, me=AGENT, peer=COORDINATOR)
    machine.start(0.0)
    assert refusal_of(answer, machine=machine).code == code


def test_a_refusal_tells_the_dialling_side_why() -> None:
    pair = Pair()
    pair.near.start(0.0)
    effects = pair.near.receive(CONTROL_STREAM, codec.encode(frames.Refusal("not_allowed", "no")))
    assert effects == [Finish("not_allowed", "no", by_peer=True)]


def test_the_handshake_has_a_deadline() -> None:
    machine = Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT, handshake_s=5.0)
    machine.start(10.0)
    assert machine.next_wakeup_s() == 15.0
    assert machine.tick(14.9) == []
    assert [type(effect) for effect in machine.tick(15.0)] == [Finish]
    assert machine.next_wakeup_s() is None


def test_an_open_connection_waits_for_nothing() -> None:
    pair = Pair().open()
    assert pair.near.next_wakeup_s() is pair.far.next_wakeup_s() is None


def test_sending_too_early_or_too_late_is_an_error_of_ours() -> None:
    machine = Connection(Side.ACCEPTED, me=COORDINATOR, peer=AGENT)
    machine.start(0.0)
    with pytest.raises(LocalProtocolError):
        machine.send(holdings(1))
    machine.close()
    with pytest.raises(LinkClosed):
        machine.send(holdings(1))


def test_what_comes_after_the_end_is_dropped() -> None:
    pair = Pair().open()
    late = pair.near.send(holdings(1))
    pair.far.close()
    assert pair.pass_on(late, pair.far) == []


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_no_bytes_make_the_machine_fail(chunks: list[bytes], opened: bool) -> None:
    machine = Pair().open().far if opened else in_state(State.AWAITING)
    for chunk in chunks:
        machine.receive(CONTROL_STREAM, chunk)
    assert machine.state in State
