"""What was written on the streams of a connection and has not left: taken out in chunks, by turns.

A long frame must not keep a short one on the other stream waiting.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

CHUNK_BYTES = 16 * 1024
"""Of a stream in one message; TLS puts as much into one record."""


class Waiting:
    """Bytes of each stream, in order."""

    def __init__(self) -> None:
        self.total_bytes = 0
        """Of all streams."""
        self._streams: dict[int, collections.deque[memoryview]] = {}

    def add(self, stream: int, data: bytes) -> None:
        """Put bytes behind those that wait on a stream."""
        self._streams.setdefault(stream, collections.deque()).append(memoryview(data))
        self.total_bytes += len(data)

    def turn(self) -> Iterator[bytes]:
        """A message of each stream that has something: its number in one byte, then a chunk."""
        for stream, parts in self._streams.items():
            if parts:
                yield bytes((stream,)) + self._chunk(parts)

    def clear(self) -> None:
        """Drop everything."""
        self._streams.clear()
        self.total_bytes = 0

    def _chunk(self, parts: collections.deque[memoryview]) -> bytes:
        """The next bytes of a stream, out of as many writes as fit."""
        taken: list[memoryview] = []
        room = CHUNK_BYTES
        while parts and room:
            part = parts.popleft()
            taken.append(part[:room])
            if len(part) > room:
                parts.appendleft(part[room:])
            room -= len(taken[-1])
        self.total_bytes -= CHUNK_BYTES - room
        return b"".join(taken)
