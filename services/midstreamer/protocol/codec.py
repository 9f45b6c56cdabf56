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
from typing import Any, Union, cast

import msgspec

from midstreamer.domain.errors import LocalProtocolError, RemoteProtocolError, shortened
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Frame

_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size
OPENING = bytes(HEAD_BYTES)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    Union[tuple(frames.FRAMES.values())]  # noqa: UP007 - built from a table, not written out
)


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

    Whatever the decoder raises was caused by these bytes.  A value in an unknown field that is
    nested deeper than the interpreter's limit raises RecursionError, for example: the decoder
    stops there, after a thousand levels, so that depth costs nothing and need not be counted first.
    """
    try:
        return cast(Frame, _decoder.decode(body))
    except Exception as error:
        raise RemoteProtocolError(
            f"{len(body)} B are no frame of version {frames.VERSION}: {shortened(str(error))}"
        ) from error


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
