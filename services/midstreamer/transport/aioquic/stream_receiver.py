"""Receiving half of a stream, which needs little memory for bytes that arrive out of order.

aioquic keeps one buffer up to the highest offset, so one byte at a high offset takes as much memory
as all bytes before it.  `aioquic_internals.hold_little` replaces aioquic's receivers by those of
this module.
"""

from __future__ import annotations

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStreamReceiver

from midstreamer.transport.aioquic.reassembly import SEGMENTS_MAX, Segments, TooManyGaps

CRYPTO_GAPS_MAX = 64
"""Maximum segments of handshake messages that arrived out of order. A handshake needs far fewer: it
has about ten packets."""


class Receiver(QuicStreamReceiver):
    """Receiving half of a stream. Bytes that arrive out of order are kept in `Segments`."""

    def __init__(
        self, stream_id: int | None, *, readable: bool = True, gaps_max: int = SEGMENTS_MAX
    ) -> None:
        super().__init__(stream_id, readable)
        self.early = Segments(gaps_max)
        self.announce_at = 0
        """Consumed bytes at which the flow-control limit is next raised; see
        `aioquic_internals.allow_by_consumption`."""

    @property
    def held_bytes(self) -> int:
        """Upper bound of the bytes in memory.

        It counts the bytes stored out of order, and all bytes received in order so far, even those
        that were passed on and freed.
        """
        return self._buffer_start + self.early.held_bytes

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Add a frame's data. Return the event with bytes that can now be read; None: no bytes."""
        end = frame.offset + len(frame.data)
        if (
            frame.offset == self._buffer_start < end
            and self._final_size is None
            and not (frame.fin or self.early.starts or self.is_finished)
        ):  # the usual case: the frame arrived in order
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
        # aioquic's own receiver makes the same checks (RFC 9000, section 4.5).
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
    """Receiving half of a stream of handshake messages.

    The streams of all TLS epochs together may receive ``bytes_max`` bytes.

    aioquic limits only bytes out of order.  TLS also holds bytes in order until their message is
    complete, and a message may announce 16 MB.
    """

    def __init__(self, together: list[CryptoReceiver], bytes_max: int) -> None:
        super().__init__(None, gaps_max=CRYPTO_GAPS_MAX)
        self._together = together
        self._bytes_max = bytes_max

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Add a frame's data. Return the event with bytes that can now be read; None: no bytes.

        If the streams of all TLS epochs together would then have received more than ``bytes_max``
        bytes, raise QuicConnectionError and store nothing.
        """
        further = frame.offset + len(frame.data) - self.highest_offset
        received = sum(receiver.highest_offset for receiver in self._together)
        if further > 0 and received + further > self._bytes_max:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=QuicFrameType.CRYPTO,
                reason_phrase=f"handshake messages exceed {self._bytes_max} B",
            )
        return super().handle_frame(frame)

    def leave(self) -> None:
        """Empty the list of the receivers of all epochs.

        Each receiver refers to this list, so the list and the receivers form a reference cycle.
        """
        self._together.clear()
