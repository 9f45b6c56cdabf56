"""The reports of held shards that an agent sends to one coordinator, split into pages.

On a new link the agent reports all its shards; later it reports changes only.  A page takes about
`PAGE_BYTES` at most, however many shards there are, and a heartbeat without changes is small.  The
last page has the number and the digest of all shards held.  A coordinator that knows a different
number or digest closes the link, and the agent reports all shards again on the next link.
"""

from __future__ import annotations

from collections.abc import Iterable

from midstreamer.domain.shard import Shard
from midstreamer.protocol.encoded_sizes import shard_bytes
from midstreamer.protocol.frames import Holdings

PAGE_BYTES = 256 * 1024
"""Approximate maximum number of bytes of shards in one frame.  It is much smaller than the limit of
a frame, because other frames wait until this one is sent."""


class Telling:
    """Changes of the held shards that are not yet reported to the coordinator of one link."""

    def __init__(self, held: Iterable[Shard]) -> None:
        self._untold = dict.fromkeys(held, True)
        self._over = False
        """True after `end` was called: from then on the agent reports that it holds no shards."""

    def changed(self, shard: Shard, *, whole: bool) -> None:
        """Record that a shard became whole (fully loaded), or ceased to be."""
        if not self._over:
            self._untold[shard] = whole

    def end(self, held: Iterable[Shard]) -> None:
        """Report from now on that the agent holds no shards.  ``held`` are the shards that it
        really holds; the next pages report each of them as dropped."""
        self._over = True
        self._untold = dict.fromkeys([*self._untold, *held], False)

    def page(self, position: int, busy: int, count: int, digest: int) -> Holdings:
        """Return the next page to send.

        ``position`` is the feed position of the agent, ``busy`` its number of searches under way;
        ``count`` and ``digest`` are those of all shards that the agent holds now.
        """
        if self._over:
            count = digest = 0
        added: list[Shard] = []
        dropped: list[Shard] = []
        room = PAGE_BYTES
        while self._untold and room > 0:
            shard, whole = self._untold.popitem()
            (added if whole else dropped).append(shard)
            room -= shard_bytes(shard)
        return Holdings(
            position,
            tuple(added),
            busy,
            dropped=tuple(dropped),
            count=count,
            digest=digest,
            more=bool(self._untold),
        )
