"""Encode frames to bytes and decode them: a length, then msgpack. Any bytes are safe to decode.

    frame = u32 big-endian length of the body | body (msgpack map, key "frame" names the type)

A length of zero is not a frame.  A side writes `OPENING`, four zero bytes, to make a stream exist
at the other side before there is a frame to send on the stream.

The length is checked before the body is kept, so a peer cannot make this process hold more than
``frame_bytes_max`` bytes of a frame.  State of the connection is kept in `protocol.connection`.
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
"""Size in bytes of the length that is sent before each body."""
OPENING = bytes(HEAD_BYTES)
"""A length of zero: written to a stream so that the stream exists at the other side."""
NAME_CHARACTERS_MAX = 64
"""A frame or a change may have a name that this version does not know. At most this many characters
of that name are kept."""
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    Union[tuple(frames.FRAMES.values())]  # noqa: UP007 - built from a table, not written out
)
_change: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
_KINDS = frozenset(kind.__name__ for kind in get_args(Change) if kind is not Skipped)


class _Frame(msgspec.Struct):
    """The only fields that are read from a frame whose name this version does not know."""

    frame: str
    request: int = 0
    budget_s: float | None = None
    """Only requests have this field; None: the frame is not a request."""


class _Kind(msgspec.Struct):
    """The field that every change has: the name of its kind."""

    type: str


class _Changes(msgspec.Struct):
    """A Changes frame whose changes are not decoded yet, because some may be of unknown kinds."""

    request: int
    position: int
    changes: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=frames.CHANGES_MAX)]
    """Encoded changes. Each is decoded by itself, which is slow. So a frame with more than
    `frames.CHANGES_MAX` changes is rejected."""


_frame = msgspec.msgpack.Decoder(_Frame)
_kind = msgspec.msgpack.Decoder(_Kind)
_changes = msgspec.msgpack.Decoder(_Changes)


def encode(frame: Frame, *, frame_bytes_max: int = frames.FRAME_BYTES_MAX) -> bytes:
    """Return the bytes of one frame, with its length.

    Raise LocalProtocolError if the body exceeds ``frame_bytes_max`` bytes.
    """
    body = _encoder.encode(frame)
    if len(body) > frame_bytes_max:
        raise LocalProtocolError(
            f"{type(frame).__name__} of {len(body):,} B exceeds frame_bytes_max="
            f"{frame_bytes_max:,}: split it or raise limits.frame_bytes_max"
        )
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes | memoryview) -> Frame:
    """Return the frame of one body; raise RemoteProtocolError if the body is no valid frame.

    A newer peer may send names that this version does not know.  A frame with an unknown name
    becomes `frames.Unknown`, and a change of an unknown kind becomes `frames.Skipped`.  In both
    cases the body is decoded a second time.

    Every exception of the decoder is caught, because only the bytes of the peer can cause it.  A
    value nested deeper than the interpreter's limit, for example, raises RecursionError.  The
    decoder stops after about 1000 levels, so nesting needs no check of its own.
    """
    try:
        return cast(Frame, _decoder.decode(body))
    except Exception as error:
        newer = _newer(body) if isinstance(error, msgspec.ValidationError) else None
        if newer is not None:
            return newer
        raise RemoteProtocolError(
            f"a body of {len(body)} B is not a valid frame of protocol version {frames.VERSION}:"
            f" {shortened(str(error))}"
        ) from error


def decode_change(body: bytes | memoryview) -> Change:
    """Return one change, or a `Skipped` if its kind is unknown.

    Raise `msgspec.MsgspecError` if the bytes are not a valid change.
    """
    try:
        return _change.decode(body)
    except msgspec.ValidationError:
        kind = _kind.decode(body).type
        if kind in _KINDS:
            raise
        return Skipped(shortened(kind, NAME_CHARACTERS_MAX))


def _newer(body: bytes | memoryview) -> Frame | None:
    """Decode a frame that may come from a newer version; None if it is valid in no version.

    A frame with an unknown name becomes `frames.Unknown`.  In a Changes frame, each change of an
    unknown kind becomes `Skipped`.
    """
    try:
        header = _frame.decode(body)
        if header.frame not in frames.FRAMES:
            number = header.request if header.budget_s is not None else 0
            return frames.Unknown(shortened(header.frame, NAME_CHARACTERS_MAX), number)
        if header.frame != frames.Changes.__name__:
            return None
        page = _changes.decode(body)
        return frames.Changes(
            request=page.request,
            position=page.position,
            changes=tuple(map(decode_change, page.changes)),
        )
    except Exception:
        return None


class Splitter:
    """Cuts the bytes of one stream into frame bodies. Holds at most one incomplete frame."""

    def __init__(self, *, frame_bytes_max: int = frames.FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.frames = 0
        """Number of complete frames so far."""
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes held of the incomplete frame; 0 between two frames."""
        return len(self._held)

    def release(self) -> None:
        """Drop the held bytes. Call this when no more bytes will be fed."""
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add received bytes and yield each complete body.

        Raise RemoteProtocolError for a frame longer than ``frame_bytes_max``.
        """
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
