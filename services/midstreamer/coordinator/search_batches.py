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
"""Least result of `room_beside`: so many bytes may be used for shards, however large the windows
are."""
SEARCH_BYTES = 4096
"""Estimated size in bytes of a Search frame that has no windows and no shards."""
WINDOW_BYTES = 256
"""Estimated number of bytes that one window adds to a Search frame, not counting the window's
values. These bytes include the name of the window's series."""


def room_beside(windows: Sequence[Window]) -> int:
    """Return how many bytes the shards in one Search frame may take.

    The frame also contains the windows, so the more bytes they take, the fewer are left for shards.
    """
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
