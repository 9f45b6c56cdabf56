"""How many shards one Search asks for, so that it fits into a frame whatever an agent holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from midstreamer.domain.series import Window
from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import FRAME_BYTES_MAX
from midstreamer.protocol.sizes import shard_bytes

SHARDS_BYTES_MAX = FRAME_BYTES_MAX // 4
"""Most bytes of shards in one Search."""
ROOM_LEAST = 4096
"""Bytes of shards that are asked for at once however large the windows are."""
SEARCH_BYTES = 4096
"""Of a Search without its windows and its shards."""
WINDOW_BYTES = 256
"""Of a window in it without its values, the name of its series counted."""


def room_beside(windows: Sequence[Window]) -> int:
    """Bytes of shards that fit into a Search beside these windows."""
    taken = SEARCH_BYTES + sum(WINDOW_BYTES + len(window.values) for window in windows)
    return max(ROOM_LEAST, min(FRAME_BYTES_MAX - taken, SHARDS_BYTES_MAX))


def parts(shards: Iterable[Shard], room: int) -> Iterator[tuple[Shard, ...]]:
    """Shards in parts of so many bytes, at least one in each."""
    part: list[Shard] = []
    left = room
    for shard in shards:
        size = shard_bytes(shard)
        if part and left < size:
            yield tuple(part)
            part, left = [], room
        part.append(shard)
        left -= size
    if part:
        yield tuple(part)
