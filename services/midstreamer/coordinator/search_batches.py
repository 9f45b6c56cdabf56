"""Split the shards of a search so that each Search fits into one frame, however many shards an
agent holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from midstreamer.domain.series import Window
from midstreamer.domain.shard import Shard
from midstreamer.protocol.encoded_sizes import shard_bytes
from midstreamer.protocol.frames import FRAME_BYTES_MAX

SHARDS_BYTES_MAX = FRAME_BYTES_MAX // 4
"""Maximum number of bytes that the shards of one Search take."""
ROOM_LEAST = 4096
"""Bytes that the shards of one Search may take in any case, however large its windows are."""
SEARCH_BYTES = 4096
"""Bytes counted for a Search in addition to its windows and its shards."""
WINDOW_BYTES = 256
"""Bytes counted for each window of a Search in addition to its values; they include the name of its
series."""


def room_beside(windows: Sequence[Window]) -> int:
    """Return how many bytes the shards of a Search may take beside the given windows."""
    taken = SEARCH_BYTES + sum(WINDOW_BYTES + len(window.values) for window in windows)
    return max(ROOM_LEAST, min(FRAME_BYTES_MAX - taken, SHARDS_BYTES_MAX))


def parts(shards: Iterable[Shard], room: int) -> Iterator[tuple[Shard, ...]]:
    """Split shards into parts of at most ``room`` bytes; each part has at least one shard."""
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
