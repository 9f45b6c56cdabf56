"""Bytes of a stream that came before the bytes in front of them.

A segment costs what it holds, whatever its offset.  Bytes that continue a segment are appended
to it, so that honest loss makes one segment for each gap.  The number of segments is bounded:
single bytes at every second offset would else cost a hundred times what they hold.
"""

from __future__ import annotations

import bisect

SEGMENTS_MAX = 1024
"""aioquic acknowledges 64 ranges of packets; a stream with so many gaps is no work of a network."""


class TooManyGaps(Exception):
    """A stream has more gaps than are kept."""


class Segments:
    """Parts of one stream, by offset; they never overlap."""

    def __init__(self, most: int = SEGMENTS_MAX) -> None:
        self._most = most
        self.starts: list[int] = []
        """Where each begins, in order."""
        self._parts: list[bytearray] = []

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def held_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(map(len, self._parts))

    def add(self, start: int, data: bytes) -> None:
        """Keep what is new of ``data``; TooManyGaps when that would be one segment too many."""
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
        """Take out the bytes that follow on ``start`` without a gap, and all before it."""
        taken = []
        while self.starts and self.starts[0] <= start:
            first, part = self.starts.pop(0), self._parts.pop(0)
            fresh = memoryview(part)[start - first :]
            taken.append(fresh)
            start += len(fresh)
        return taken

    def clear(self) -> None:
        """Drop everything."""
        self.starts.clear()
        self._parts.clear()

    def _end(self, index: int) -> int:
        return self.starts[index] + len(self._parts[index])

    def _put(self, index: int, at: int, data: bytes) -> bool:
        """Append to the segment before ``index``, or make one there; whether one was made."""
        if index and self._end(index - 1) == at:
            self._parts[index - 1] += data
            return False
        if len(self.starts) >= self._most:
            raise TooManyGaps
        self.starts.insert(index, at)
        self._parts.insert(index, bytearray(data))
        return True
