"""Deadlines of frames of which only the first bytes have arrived: sans-IO.

An incomplete frame occupies memory, so it needs a deadline.  A frame must be complete ``frame_s``
seconds after its first byte, plus one second for each ``BYTES_PER_S`` bytes that have arrived.  A
peer that sends at least ``BYTES_PER_S`` never misses the deadline, however large the frame.  A peer
that stops, or sends only a byte now and then, misses the deadline.  No frame can take longer than
``frame_s + frame_bytes_max / BYTES_PER_S`` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.protocol.codec import Splitter

FRAME_S = 30.0
"""Default seconds in which a whole frame must arrive. Bytes that arrive extend this time."""
BYTES_PER_S = 16 * 1024
"""Slowest rate at which a peer may send a frame: 16 KiB/s. Any network between two services is
faster. At this rate the largest frame that is allowed by default, 4 MiB, takes 256 s."""


@dataclass(slots=True)
class _Begun:
    """A frame that has begun to arrive and is not complete."""

    at_s: float
    """Time at which the first byte of the frame arrived."""
    number: int
    """How many frames of the same stream were complete before this frame."""
    held_bytes: int
    """Bytes of the frame that have arrived."""


class FrameDeadlines:
    """The incomplete frame of each stream of one connection, and its deadline."""

    def __init__(self, frame_s: float = FRAME_S) -> None:
        self._frame_s = frame_s
        self.begun: dict[int, _Begun] = {}
        """Incomplete frames, by stream id."""

    def note(self, stream: int, splitter: Splitter, now_s: float) -> None:
        """Start, extend or end the deadline of a stream's frame, after bytes have arrived."""
        held, begun = splitter.held_bytes, self.begun.get(stream)
        if not held:
            if begun is not None:
                del self.begun[stream]
        elif begun is not None and begun.number == splitter.frames:
            begun.held_bytes = held
        else:
            self.begun[stream] = _Begun(now_s, splitter.frames, held)

    def clear(self) -> None:
        """Drop all deadlines, because the connection reads no more bytes."""
        self.begun.clear()

    def next_s(self) -> float | None:
        """Return the earliest deadline; None while no frame is incomplete."""
        return min(map(self._deadline_s, self.begun.values())) if self.begun else None

    def overdue(self, now_s: float) -> str:
        """Return an error message about a frame whose deadline has passed; empty if none has."""
        for stream, begun in self.begun.items():
            if now_s >= self._deadline_s(begun):
                return (
                    f"a frame on stream {stream} is not complete {now_s - begun.at_s:.1f} s after"
                    f" its first byte; {begun.held_bytes:,} B have arrived: send each frame within"
                    f" limits.frame_s={self._frame_s:g} s, or at {BYTES_PER_S:,} B/s or faster"
                )
        return ""

    def _deadline_s(self, begun: _Begun) -> float:
        return begun.at_s + self._frame_s + begun.held_bytes / BYTES_PER_S
