"""The receiving half of a stream: what came early is held at what it costs, and bounded.

aioquic keeps one buffer up to the furthest offset: one byte at a far one costs all before it.
`internals.hold_little` puts these in the place of aioquic's own.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver

from midstreamer.transport.aioquic.reassembly import SEGMENTS_MAX, Segments, TooManyGaps

CRYPTO_GAPS_MAX = 64
"""A handshake has some ten packets."""


class Receiver(QuicStreamReceiver):
    """The receiving half of a stream, which keeps what came early as `reassembly.Segments`.

    aioquic keeps one buffer up to the furthest offset: one byte at a far one costs all before it.
    """

    def __init__(
        self, stream_id: int | None, *, readable: bool = True, gaps_max: int = SEGMENTS_MAX
    ) -> None:
        super().__init__(stream_id, readable)
        self.early = Segments(gaps_max)
        self.announce_at = 0
        """What has to be read before more is allowed; see `allow_by_consumption`."""

    @property
    def held_bytes(self) -> int:
        """What was read, which its reader may hold, and what came early."""
        return self._buffer_start + self.early.held_bytes

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Take a frame's data; what can be read now, and whether it is the last."""
        end = frame.offset + len(frame.data)
        if (
            frame.offset == self._buffer_start < end
            and self._final_size is None
            and not (frame.fin or self.early.starts or self.is_finished)
        ):  # nearly always: it came in order
            self._buffer_start = end
            if end > self.highest_offset:
                self.highest_offset = end
            return StreamDataReceived(
                data=frame.data, end_stream=False, stream_id=self._stream_id or 0
            )
        self._check_end(end, fin=frame.fin)
        self.highest_offset = max(self.highest_offset, end)
        if self.is_finished:
            return None
        if frame.offset > self._buffer_start:
            self._keep(frame)
            return None
        data = frame.data[self._buffer_start - frame.offset :]
        if self.early.starts:
            data = b"".join((data, *self.early.take(self._buffer_start + len(data))))
        self._buffer_start += len(data)
        self.is_finished = self._buffer_start == self._final_size
        if not (data or self.is_finished):
            return None
        return StreamDataReceived(
            data=data, end_stream=self.is_finished, stream_id=self._stream_id or 0
        )

    def _check_end(self, end: int, *, fin: bool) -> None:
        # As aioquic does (RFC 9000, section 4.5).
        if self._final_size is not None and end > self._final_size:
            raise FinalSizeError("Data received beyond final size")
        if fin and self._final_size not in (None, end):
            raise FinalSizeError("Cannot change final size")
        if fin and end < self.highest_offset:
            raise FinalSizeError("Data received beyond final size")
        if fin:
            self._final_size = end

    def _keep(self, frame: QuicStreamFrame) -> None:
        try:
            self.early.add(frame.offset, frame.data)
        except TooManyGaps:
            raise QuicConnectionError(
                error_code=QuicErrorCode.INTERNAL_ERROR,
                frame_type=QuicFrameType.STREAM_BASE,
                reason_phrase="a stream has too many gaps",
            ) from None


class CryptoReceiver(Receiver):
    """The same for handshake messages, of which all epochs together may bring ``bytes_max``.

    aioquic bounds what came early. What came in order is held too, by TLS, until its message is
    complete, and a message may announce 16 MB.
    """

    def __init__(self, together: list[CryptoReceiver], bytes_max: int) -> None:
        super().__init__(None, gaps_max=CRYPTO_GAPS_MAX)
        self._together = together
        self._bytes_max = bytes_max

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Refuse a frame that ends beyond the bound, before anything of it is kept."""
        further = frame.offset + len(frame.data) - self.highest_offset
        received = sum(receiver.highest_offset for receiver in self._together)
        if further > 0 and received + further > self._bytes_max:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=QuicFrameType.CRYPTO,
                reason_phrase=f"handshake messages of more than {self._bytes_max} B",
            )
        return super().handle_frame(frame)

    def leave(self) -> None:
        """Forget the other epochs: they refer to each other, which keeps all of them alive."""
        self._together.clear()
