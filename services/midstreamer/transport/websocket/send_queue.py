"""Queue of unsent bytes per stream, sent in chunks that alternate between the streams.

So a short frame on one stream does not wait behind a long frame on the other.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

CHUNK_BYTES = 16 * 1024
"""Maximum bytes of a stream in one message: the size of one TLS record."""


class Waiting:
    """Unsent bytes of each stream, in order."""

    def __init__(self) -> None:
        self.total_bytes = 0
        """Number of unsent bytes of all streams."""
        self._streams: dict[int, collections.deque[memoryview]] = {}

    def add(self, stream: int, data: bytes) -> None:
        """Append bytes to the queue of a stream."""
        self._streams.setdefault(stream, collections.deque()).append(memoryview(data))
        self.total_bytes += len(data)

    def turn(self) -> Iterator[bytes]:
        """For each stream with unsent bytes, yield its id as one byte, followed by one chunk."""
        for stream, parts in self._streams.items():
            if parts:
                yield bytes((stream,)) + self._chunk(parts)

    def clear(self) -> None:
        """Drop all unsent bytes."""
        self._streams.clear()
        self.total_bytes = 0

    def _chunk(self, parts: collections.deque[memoryview]) -> bytes:
        """Remove and return the next bytes of a stream, at most `CHUNK_BYTES`."""
        pieces: list[memoryview] = []
        room = CHUNK_BYTES
        while parts and room:
            part = parts.popleft()
            pieces.append(part[:room])
            if len(part) > room:
                parts.appendleft(part[room:])
            room -= len(pieces[-1])
        self.total_bytes -= CHUNK_BYTES - room
        return b"".join(pieces)
