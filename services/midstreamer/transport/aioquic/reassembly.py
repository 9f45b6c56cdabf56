"""Buffer for bytes of a stream that arrived out of order, before the bytes in front of them.

Contiguous bytes form one segment.  A segment takes as much memory as it has bytes, whatever its
offset, and ordinary packet loss makes one segment per gap.  The number of segments is limited,
because single bytes at every second offset would take a hundred times their size in memory.
"""

from __future__ import annotations

import bisect

SEGMENTS_MAX = 1024
"""Maximum segments of one stream. Packet loss alone causes fewer, because aioquic acknowledges at
most 64 separate ranges of packets."""


class TooManyGaps(Exception):
    """A stream has more gaps than the limit allows."""


class Segments:
    """Segments of one stream, ordered by offset. They never overlap."""

    def __init__(self, most: int = SEGMENTS_MAX) -> None:
        self._most = most
        self.starts: list[int] = []
        """Offset of each segment in the stream, ascending."""
        self._parts: list[bytearray] = []

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def held_bytes(self) -> int:
        """Number of bytes in all segments."""
        return sum(map(len, self._parts))

    def add(self, start: int, data: bytes) -> None:
        """Store the bytes of ``data``, at offset ``start``, that are not stored yet.

        Raise TooManyGaps if that needs more segments than allowed.
        """
        end, at = start + len(data), start
        index = bisect.bisect_right(self.starts, start)
        if index:
            at = max(at, self._end(index - 1))
        while at < end:
            stop = min(end, self.starts[index]) if index < len(self.starts) else end
            if at < stop and self._put(index, at, data[at - start : stop - start]):
                index += 1
            if index == len(self.starts):
                return
            at, index = max(stop, self._end(index)), index + 1

    def take(self, start: int) -> list[memoryview]:
        """Drop the bytes before ``start``; remove and return the bytes from it to the next gap."""
        parts = []
        while self.starts and self.starts[0] <= start:
            first, part = self.starts.pop(0), self._parts.pop(0)
            fresh = memoryview(part)[start - first :]
            parts.append(fresh)
            start += len(fresh)
        return parts

    def clear(self) -> None:
        """Drop all segments."""
        self.starts.clear()
        self._parts.clear()

    def _end(self, index: int) -> int:
        return self.starts[index] + len(self._parts[index])

    def _put(self, index: int, at: int, data: bytes) -> bool:
        """Store ``data`` at offset ``at``; return whether that made a new segment.

        If the segment before ``index`` ends at ``at``, the data is appended to that segment.
        Otherwise a new segment is inserted at ``index``.
        """
        if index and self._end(index - 1) == at:
            self._parts[index - 1] += data
            return False
        if len(self.starts) >= self._most:
            raise TooManyGaps
        self.starts.insert(index, at)
        self._parts.insert(index, bytearray(data))
        return True
