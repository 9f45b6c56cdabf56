"""Frames to bytes and back: a length, then msgpack. Any bytes are safe to read.

    frame = u32 big-endian length of the body | body (msgpack map, key "frame" names the type)

A length of zero is no frame; OPENING, four zero bytes, is what a side writes to a stream that
must exist before it has anything to say on it.
The length is judged before a byte of the body is kept: a peer cannot make us hold more than
``frame_bytes_max``.  Nothing here knows of connections; `protocol.connection` does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Any, Union, cast, get_args

import msgspec

from midstreamer.domain.errors import LocalProtocolError, RemoteProtocolError, shortened
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Change, Frame, Skipped

_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size
OPENING = bytes(HEAD_BYTES)
NAME_CHARACTERS_MAX = 64
"""Kept of a name that is not known."""
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    Union[tuple(frames.FRAMES.values())]  # noqa: UP007 - built from a table, not written out
)
_change: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
_KINDS = frozenset(kind.__name__ for kind in get_args(Change) if kind is not Skipped)


class _Frame(msgspec.Struct):
    """What every frame says; the rest is passed over."""

    frame: str
    request: int = 0
    budget_s: float | None = None
    """Requests have one."""


class _Kind(msgspec.Struct):
    """What every change says."""

    type: str


class _Changes(msgspec.Struct):
    """Changes of which some are of a kind that is not known."""

    request: int
    position: int
    changes: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=frames.CHANGES_MAX)]
    """Each is read by itself, which takes long: a frame with more of them is not looked at."""


_frame = msgspec.msgpack.Decoder(_Frame)
_kind = msgspec.msgpack.Decoder(_Kind)
_changes = msgspec.msgpack.Decoder(_Changes)


def encode(frame: Frame, *, frame_bytes_max: int = frames.FRAME_BYTES_MAX) -> bytes:
    """One frame, length included; LocalProtocolError when it would be too large to send."""
    body = _encoder.encode(frame)
    if len(body) > frame_bytes_max:
        raise LocalProtocolError(
            f"{type(frame).__name__} of {len(body):,} B exceeds frame_bytes_max="
            f"{frame_bytes_max:,}: split it or raise limits.frame_bytes_max"
        )
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes | memoryview) -> Frame:
    """The frame of one body; RemoteProtocolError says what is wrong with it.

    A frame of a name that is not known becomes `frames.Unknown`, and a change of a kind that is
    not known `frames.Skipped`: a newer peer may send them.  Either costs a second reading of the
    body, and no more.

    Whatever the decoder raises was caused by these bytes.  A value in an unknown field that is
    nested deeper than the interpreter's limit raises RecursionError, for example: the decoder
    stops there, after a thousand levels, so that depth costs nothing and need not be counted first.
    """
    try:
        return cast(Frame, _decoder.decode(body))
    except Exception as error:
        newer = _newer(body) if isinstance(error, msgspec.ValidationError) else None
        if newer is not None:
            return newer
        raise RemoteProtocolError(
            f"{len(body)} B are no frame of version {frames.VERSION}: {shortened(str(error))}"
        ) from error


def decode_change(body: bytes | memoryview) -> Change:
    """One change by itself, `Skipped` when its kind is not known; MsgspecError."""
    try:
        return _change.decode(body)
    except msgspec.ValidationError:
        kind = _kind.decode(body).type
        if kind in _KINDS:
            raise
        return Skipped(shortened(kind, NAME_CHARACTERS_MAX))


def _newer(body: bytes | memoryview) -> Frame | None:
    """What a newer peer may have meant with a body that is no frame of ours; None: nothing."""
    try:
        said = _frame.decode(body)
        if said.frame not in frames.FRAMES:
            number = said.request if said.budget_s is not None else 0
            return frames.Unknown(shortened(said.frame, NAME_CHARACTERS_MAX), number)
        if said.frame != frames.Changes.__name__:
            return None
        told = _changes.decode(body)
        return frames.Changes(
            request=told.request,
            position=told.position,
            changes=tuple(map(decode_change, told.changes)),
        )
    except Exception:
        return None


class Splitter:
    """Cuts a stream of bytes into frame bodies; keeps at most one unfinished frame."""

    def __init__(self, *, frame_bytes_max: int = frames.FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.frames = 0
        """Frames cut so far."""
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes of the frame that is not complete yet; 0 between two frames."""
        return len(self._held)

    def release(self) -> None:
        """Drop what is held; nothing more will be fed."""
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes in; give out each body that is complete."""
        self._held += data
        at = 0
        try:
            while len(self._held) - at >= HEAD_BYTES:
                (length,) = _LENGTH.unpack_from(self._held, at)
                if length > self.frame_bytes_max:
                    raise RemoteProtocolError(
                        f"frame of {length:,} B exceeds frame_bytes_max="
                        f"{self.frame_bytes_max:,}: split it or raise limits.frame_bytes_max"
                    )
                end = at + HEAD_BYTES + length
                if len(self._held) < end:
                    return
                body = bytes(self._held[at + HEAD_BYTES : end])
                at = end
                self.frames += 1
                if body:
                    yield body
        finally:
            del self._held[:at]
