"""Frames are encoded and decoded in pieces of any size; no bytes make the decoder crash."""

import itertools
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import LocalProtocolError, RemoteProtocolError
from midstreamer.protocol import codec, frames
from midstreamer.protocol.codec import Splitter

EXAMPLES: list[frames.Frame] = [
    frames.AgentHandshake("a1", "agent", 1, "i"),
    frames.CoordinatorAck("c1", frames.AssignedStreams(0, 4)),
    frames.Refusal("expired", "yesterday"),
    frames.Survey(request=3, budget_s=0.5),
    frames.Failure(request=3, code="behind", message="5 < 9", retry_after_s=0.1),
    frames.Changes(
        request=9,
        position=4,
        changes=(frames.Learned("s", 2, b"\x00\xff"), frames.Joined(())),
    ),
]


@given(
    sent=st.lists(st.sampled_from(EXAMPLES), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_frames_come_out_whole_however_the_bytes_are_cut(
    sent: list[frames.Frame], cuts: list[int]
) -> None:
    data = b"".join(codec.encode(frame) for frame in sent)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    splitter = Splitter()
    bodies = [
        body
        for start, stop in itertools.pairwise(places)
        for body in splitter.feed(data[start:stop])
    ]
    assert [codec.decode(body) for body in bodies] == sent


@given(st.binary(max_size=300))
def test_any_body_is_a_frame_or_a_named_error(body: bytes) -> None:
    try:
        assert isinstance(codec.decode(body), frames.Frame)
    except RemoteProtocolError as error:
        assert "not a valid frame" in error.message  # noqa: PT017 - either outcome is right


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_a_splitter_never_keeps_more_than_one_frame(chunks: list[bytes]) -> None:
    splitter, limit = Splitter(frame_bytes_max=64), 64 + codec.HEAD_BYTES
    try:
        for chunk in chunks:
            assert all(len(body) <= 64 for body in splitter.feed(chunk))
            assert len(splitter._held) < limit
    except RemoteProtocolError as error:
        assert "frame_bytes_max=64" in error.message  # noqa: PT017 - either outcome is right


def test_a_length_is_refused_before_its_body_comes() -> None:
    with pytest.raises(RemoteProtocolError, match="exceeds frame_bytes_max"):
        list(Splitter(frame_bytes_max=10).feed(b"\x00\x00\x00\x0b"))


def test_a_frame_too_large_to_send_is_an_error_of_ours() -> None:
    with pytest.raises(LocalProtocolError, match=r"Refusal of .* exceeds"):
        codec.encode(frames.Refusal("x", "y" * 100), frame_bytes_max=50)


def test_the_opening_of_a_stream_is_no_frame() -> None:
    assert list(Splitter().feed(codec.OPENING * 3)) == []


def test_unknown_fields_are_ignored() -> None:

    newer = {"frame": "Refusal", "code": "a", "message": "b", "hint": "new in version 1.1"}
    assert codec.decode(msgspec.msgpack.encode(newer)) == frames.Refusal("a", "b")


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"frame": "Wish", "request": 7, "budget_s": 1.0, "for": [1, {"a": b"b"}]}, 7),
        # A response is never answered with a Failure frame, so no request number is reported.
        ({"frame": "Granted", "request": 7, "position": 3}, 0),
        ({"frame": "Wish", "code": "a"}, 0),
        ({"frame": "Unknown", "name": "x"}, 0),
        ({"frame": "w" * 100_000}, 0),
    ],
)
def test_a_frame_of_an_unknown_name_is_reported_by_its_name(
    fields: dict[str, object], number: int
) -> None:
    frame = codec.decode(msgspec.msgpack.encode(fields))
    assert isinstance(frame, frames.Unknown)
    assert frame.name[:30] == str(fields["frame"])[:30]
    assert len(frame.name) <= codec.NAME_CHARACTERS_MAX
    assert frame.request == number


@pytest.mark.parametrize(
    "fields",
    [
        {"frame": 7},
        {"frame": "Wish", "request": "seven"},
        {"frame": "Survey", "request": "seven"},
        {"frame": "Changes", "changes": [{"type": "Points"}]},
        {"frame": "Changes", "changes": [{"kind": "New"}]},
        {"frame": "Changes", "changes": 7},
    ],
)
def test_what_is_not_newer_but_wrong_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match="not a valid frame"):
        codec.decode(msgspec.msgpack.encode(fields))


def test_a_change_of_an_unknown_kind_is_skipped_in_its_place() -> None:
    known = (frames.Learned("s", 2, b"x"), frames.Joined(()))
    encoded = msgspec.msgpack.decode(
        msgspec.msgpack.encode(frames.Changes(request=9, position=4, changes=known))
    )
    encoded["changes"].insert(1, {"type": "Split", "series": "a", "deep": [[{}]]})
    assert codec.decode(msgspec.msgpack.encode(encoded)) == frames.Changes(
        request=9, position=4, changes=(known[0], frames.Skipped("Split"), known[1])
    )


def test_more_changes_than_a_frame_may_have_are_not_read_one_by_one() -> None:
    # Each unknown change takes a microsecond to read. A frame with half a million changes would
    # block the event loop for half a second, so a frame may have at most CHANGES_MAX.
    kind = msgspec.Raw(msgspec.msgpack.encode({"type": "x"}))
    fields = {"frame": "Changes", "request": 1, "position": 1}
    most = {**fields, "changes": [kind] * frames.CHANGES_MAX}
    assert isinstance(codec.decode(msgspec.msgpack.encode(most)), frames.Changes)
    more = {**fields, "changes": [kind] * (frames.CHANGES_MAX + 1)}
    with pytest.raises(RemoteProtocolError):
        codec.decode(msgspec.msgpack.encode(more))


def test_a_stored_change_is_read_alike() -> None:
    body = msgspec.msgpack.encode(frames.Joined(()))
    assert codec.decode_change(body) == frames.Joined(())
    newer = msgspec.msgpack.encode({"type": "Split"})
    assert codec.decode_change(newer) == frames.Skipped("Split")
    with pytest.raises(msgspec.MsgspecError):
        codec.decode_change(msgspec.msgpack.encode({"type": "Joined", "members": 7}))


@pytest.mark.parametrize(
    "opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xc0"]
)
@pytest.mark.parametrize("depth", [1, 100, 2000, 100_000])
def test_a_nested_value_is_a_frame_or_a_named_error(opening: bytes, depth: int) -> None:
    known = msgspec.msgpack.encode({"frame": "Refusal", "code": "a", "message": "b"})
    body = b"\x84" + known[1:] + b"\xa4hint" + opening * depth + b"\xc0"
    try:
        assert codec.decode(body) == frames.Refusal("a", "b")
    except RemoteProtocolError as error:
        assert (depth > 100, "not a valid frame" in error.message) == (True, True)  # noqa: PT017 - as above


@pytest.mark.parametrize(
    "error", [RecursionError, MemoryError, OverflowError, SystemError, KeyError]
)
def test_whatever_the_decoder_raises_is_the_senders_error(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Failing:
        def decode(self, body: bytes) -> frames.Frame:
            raise error("inside")

    monkeypatch.setattr(codec, "_decoder", Failing())
    with pytest.raises(RemoteProtocolError, match="not a valid frame"):
        codec.decode(b"\x80")


@pytest.mark.parametrize("count", [2**20, 2**32 - 1])
def test_a_length_inside_a_frame_is_not_believed(count: int) -> None:
    encode = msgspec.msgpack.encode
    body = b"\x82" + encode("frame") + encode("Changes") + encode("changes") + b"\xdd"
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError):
        codec.decode(body + count.to_bytes(4, "big"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000
