"""What one coordinator still has to be told of the shards held here, cut into pages.

After a link opens that is every shard; later it is what changes.  Whatever its number of shards, an
agent fills a frame only to `PAGE_BYTES`, and a heartbeat is small.  The last page says how many
shards there are in all and their digest: a coordinator that has come to something else closes the
link, and is told everything again on the next.
"""

from __future__ import annotations

from collections.abc import Iterable

from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import Holdings
from midstreamer.protocol.sizes import shard_bytes

PAGE_BYTES = 256 * 1024
"""Of shards in one frame, about; small beside a frame, since other statements wait behind it."""


class Telling:
    """What one link has not been told yet."""

    def __init__(self, held: Iterable[Shard]) -> None:
        self._untold = dict.fromkeys(held, True)
        self._over = False
        """It is told that nothing is held, whatever is."""

    def changed(self, shard: Shard, *, whole: bool) -> None:
        """What is held of a shard has changed."""
        if not self._over:
            self._untold[shard] = whole

    def end(self, held: Iterable[Shard]) -> None:
        """Tell from now on that nothing is held; ``held`` is what is."""
        self._over = True
        self._untold = dict.fromkeys([*self._untold, *held], False)

    def page(self, position: int, busy: int, count: int, digest: int) -> Holdings:
        """The next frame; ``count`` and ``digest`` are those of all shards held now."""
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
