"""Deadlines of frames that have begun and are not complete: sans-IO.

Half a frame is held in memory, so it may not stay for ever.  A frame has to be complete
``frame_s`` seconds after its first byte, and one second later for each BYTES_PER_S bytes of it
that came.  Whoever sends at that rate or faster is never cut off, however large the frame; whoever
stops, or sends one byte now and then, is.  No frame takes longer than
``frame_s + frame_bytes_max / BYTES_PER_S``.
"""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.protocol.codec import Splitter

FRAME_S = 30.0
BYTES_PER_S = 16 * 1024
"""128 kbit/s, less than any network that two services share: 4 MB pass in 256 s."""


@dataclass(slots=True)
class _Begun:
    """A frame whose first byte came, which of its stream it is, and how many bytes are there."""

    at_s: float
    number: int
    held_bytes: int


class FrameDeadlines:
    """The unfinished frame of each stream of one connection."""

    def __init__(self, frame_s: float = FRAME_S) -> None:
        self._frame_s = frame_s
        self.begun: dict[int, _Begun] = {}
        """By stream."""

    def note(self, stream: int, splitter: Splitter, now_s: float) -> None:
        """Bytes came on a stream: begin the deadline of a frame, extend it, or end it."""
        held, begun = splitter.held_bytes, self.begun.get(stream)
        if not held:
            if begun is not None:
                del self.begun[stream]
        elif begun is not None and begun.number == splitter.frames:
            begun.held_bytes = held
        else:
            self.begun[stream] = _Begun(now_s, splitter.frames, held)

    def clear(self) -> None:
        """Nothing more is read."""
        self.begun.clear()

    def next_s(self) -> float | None:
        """The first deadline; None while no frame is unfinished."""
        return min(map(self._deadline_s, self.begun.values())) if self.begun else None

    def overdue(self, now_s: float) -> str:
        """What to say of a frame whose deadline has passed; empty while there is none."""
        for stream, begun in self.begun.items():
            if now_s >= self._deadline_s(begun):
                return (
                    f"a frame on stream {stream} is not complete {now_s - begun.at_s:.1f} s after"
                    f" its first byte, {begun.held_bytes:,} B of it came: send each frame within"
                    f" limits.frame_s={self._frame_s:g} s, or {BYTES_PER_S:,} B a second"
                )
        return ""

    def _deadline_s(self, begun: _Begun) -> float:
        return begun.at_s + self._frame_s + begun.held_bytes / BYTES_PER_S
