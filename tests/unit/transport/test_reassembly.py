"""Bytes of a stream that arrive early are kept in bounded memory and delivered once, in order."""

from __future__ import annotations

import tracemalloc

import pytest
from aioquic.quic.packet import QuicStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.transport.aioquic.reassembly import SEGMENTS_MAX, Segments, TooManyGaps
from midstreamer.transport.aioquic.stream_receiver import Receiver

STREAM = bytes(range(256))
PIECES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 40)), max_size=60)


@given(PIECES)
def test_a_stream_comes_out_in_order_however_its_pieces_came(
    pieces: list[tuple[int, int]],
) -> None:
    receiver, out = Receiver(0), b""
    for start, length in [*pieces, (0, 256)]:
        event = receiver.handle_frame(QuicStreamFrame(STREAM[start : start + length], offset=start))
        out += event.data if event else b""
        assert out == STREAM[: len(out)]
        assert receiver.starting_offset() == len(out)
    assert out == STREAM
    assert len(receiver.early) == receiver.early.held_bytes == 0


@given(PIECES)
def test_no_byte_is_held_twice(pieces: list[tuple[int, int]]) -> None:
    segments, seen = Segments(), set[int]()
    for start, length in pieces:
        segments.add(start, STREAM[start : start + length])
        seen |= set(range(start, min(start + length, 256)))
        assert segments.held_bytes == len(seen)


@given(PIECES, st.integers(1, 255))
def test_the_end_of_the_stream_comes_with_the_last_byte(
    pieces: list[tuple[int, int]], size: int
) -> None:
    receiver, ends = Receiver(0), 0
    last = QuicStreamFrame(STREAM[size - 1 : size], fin=True, offset=size - 1)
    early = [
        QuicStreamFrame(STREAM[at : min(at + n, size)], offset=at) for at, n in pieces if at < size
    ]
    for frame in [*early, last, QuicStreamFrame(STREAM[:size])]:
        event = receiver.handle_frame(frame)
        ends += bool(event and event.end_stream)
    assert (ends, receiver.is_finished) == (1, True)


def test_bytes_that_continue_a_segment_join_it() -> None:
    segments = Segments()
    for at in range(1000, 50_000, 100):
        segments.add(at, bytes(100))
    assert len(segments) == 1


def test_gaps_are_bounded() -> None:
    segments = Segments()
    for at in range(SEGMENTS_MAX):
        segments.add(1 + 2 * at, b"x")
    with pytest.raises(TooManyGaps):
        segments.add(1_000_000, b"x")


def test_a_far_byte_costs_a_byte() -> None:
    segments = Segments()
    tracemalloc.start()
    segments.add(1 << 40, b"x")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1000
