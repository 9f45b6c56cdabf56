"""The time limit from the first to the last byte of a frame."""

from __future__ import annotations

import pytest

from midstreamer.protocol import codec, frame_deadlines
from midstreamer.protocol.codec import Splitter
from midstreamer.protocol.connection import CONTROL_STREAM, Code, Connection
from midstreamer.protocol.connection_effects import Finish
from midstreamer.protocol.frame_deadlines import FrameDeadlines
from tests.support.link_builders import Pair, holdings

FRAME = codec.encode(holdings(1))


def fed(machine: Connection, data: bytes, now_s: float) -> None:
    assert not [e for e in machine.receive(CONTROL_STREAM, data, now_s) if isinstance(e, Finish)]


@pytest.mark.parametrize("begun", [1, 3, 5, len(FRAME) - 1])
def test_a_frame_has_a_deadline_from_its_first_byte(begun: int) -> None:
    machine = Pair().open().far
    fed(machine, FRAME[:begun], 100.0)
    due_s = machine.next_wakeup_s() or 0.0
    assert due_s == pytest.approx(100.0 + frame_deadlines.FRAME_S, abs=0.01)
    assert machine.tick(due_s - 0.01) == []
    (finish,) = [effect for effect in machine.tick(due_s) if isinstance(effect, Finish)]
    assert finish.code == Code.FRAME_TIMEOUT
    assert "its first byte" in finish.message


def test_a_complete_frame_leaves_no_deadline() -> None:
    machine = Pair().open().far
    fed(machine, FRAME[:7], 100.0)
    fed(machine, FRAME[7:] + FRAME, 129.0)
    assert machine.next_wakeup_s() is None
    assert machine.tick(1000.0) == []


def test_the_next_frame_has_its_own_deadline() -> None:
    machine = Pair().open().far
    fed(machine, FRAME[:7], 100.0)
    fed(machine, FRAME[7:] + FRAME[:9], 125.0)
    assert machine.next_wakeup_s() == pytest.approx(125.0 + frame_deadlines.FRAME_S, abs=0.01)


def last_s(rate: int, size: int) -> float | None:
    """Return when a frame at `rate` bytes per second is complete; None if it is cut off before."""
    kept, splitter = FrameDeadlines(), Splitter()
    head, now_s = size.to_bytes(4, "big"), 0.0
    data = head + bytes(size)
    for at in range(0, len(data), rate):
        if kept.overdue(now_s):
            return None
        list(splitter.feed(data[at : at + rate]))
        kept.note(0, splitter, now_s)
        now_s += 1.0
    return now_s


def test_a_slow_and_steady_sender_of_a_full_frame_is_not_cut_off() -> None:
    assert last_s(frame_deadlines.BYTES_PER_S, 4_000_000) == pytest.approx(245, abs=2)


def test_a_sender_of_a_byte_now_and_then_is() -> None:
    assert last_s(1, 4_000) is None


def test_streams_have_deadlines_of_their_own_and_the_first_counts() -> None:
    pair = Pair().open()
    half = FRAME[:7]
    pair.far.receive(pair.far.streams.bulk, half, 90.0)
    pair.far.receive(CONTROL_STREAM, half, 100.0)
    assert pair.far.next_wakeup_s() == pytest.approx(120.0, abs=0.01)


def test_what_ended_holds_nothing() -> None:
    machine = Pair().open().far
    fed(machine, FRAME[:7], 100.0)
    machine.close()
    assert machine.next_wakeup_s() is None
    assert all(splitter.held_bytes == 0 for splitter in machine._splitters.values())
