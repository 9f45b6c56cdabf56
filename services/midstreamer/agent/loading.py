"""The shards of one agent: loaded from sync, kept current by the feed.

A shard is whole once it has every point that the feed has told of and that it can use.  Loads and
feed overlap freely, since points carry positions: a load that is older than the feed is simply
followed by another for the rest.  All changes happen on the loop, between two awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from midstreamer.agent.shards import Held
from midstreamer.domain.errors import MidstreamerError, Unavailable, shortened
from midstreamer.domain.series import Column
from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import Load, Loaded
from midstreamer.runtime.peer import Session
from midstreamer.telemetry import logs

RETRY_AFTER_S = 0.05
PAUSE_S = 0.5
"""Wait before a failed load is tried again."""

log = logs.get(__name__)


class Library:
    """Every shard held, whole or not."""

    def __init__(
        self,
        session: Session,
        counts: Mapping[str, int],
        *,
        filled: Callable[[Shard], None],
        torn: Callable[[Shard], None],
        budget_s: float,
    ) -> None:
        self._session = session
        self._counts = counts
        """Points of each series, as far as the feed has been applied."""
        self._filled = filled
        self._torn = torn
        self._budget_s = budget_s
        self._held: dict[str, dict[Shard, Held]] = {}
        self._whole: set[Shard] = set()
        self._wanted: asyncio.Queue[Shard] = asyncio.Queue()

    def hold(self, shard: Shard, points: int) -> None:
        """Begin to hold a shard; ``filled`` is told when it is whole."""
        self._held.setdefault(shard.series, {}).setdefault(shard, Held(shard, points))
        self._wanted.put_nowait(shard)

    def drop(self, shard: Shard) -> None:
        """Forget a shard; searches under way keep what they have."""
        self._held.get(shard.series, {}).pop(shard, None)
        self._whole.discard(shard)

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()
        self._whole.clear()

    def whole(self, shard: Shard) -> Held:
        """A shard that can be searched; Unavailable when it is not all there."""
        held = self._find(shard)
        if held is None or shard not in self._whole:
            raise Unavailable(
                f"{shortened(shard.series)} shard {shard.number} is not held here"
                " (any more, or yet)",
                retry_after_s=RETRY_AFTER_S,
            )
        return held

    def take(self, start: int, column: Column) -> None:
        """Take points of the feed to every shard that can use them."""
        times, values = column.times_array(), column.values_array()
        end = start + len(column)
        for shard, held in list(self._held.get(column.series, {}).items()):
            if held.end >= held.stop or end <= held.end:
                continue
            joins = held.append(start, times, values)
            if joins:
                self._check(shard, held)
            elif shard in self._whole:
                self._whole.discard(shard)
                self._torn(shard)

    async def run(self) -> None:
        """Load what is wanted, one shard after another; several of these may run."""
        while True:
            shard = await self._wanted.get()
            try:
                await self._load(shard)
            except MidstreamerError as error:
                log.warning(
                    "shard.not_loaded",
                    series=shard.series,
                    number=shard.number,
                    code=error.code,
                    detail=error.message,
                )
                self._wanted.put_nowait(shard)
                await asyncio.sleep(PAUSE_S)

    async def _load(self, shard: Shard) -> None:
        while (held := self._find(shard)) is not None and not self._check(shard, held):
            request = Load(series=shard.series, start=held.end, stop=held.stop)
            answer = await self._session.ask(request, budget_s=self._budget_s)
            assert isinstance(answer, Loaded)  # noqa: S101 - it answers a Load
            column = answer.column
            if not len(column) or not held.append(
                answer.start, column.times_array(), column.values_array()
            ):
                raise Unavailable(
                    f"sync has {answer.count} points of {shard.series}, the feed has told of"
                    f" {self._counts.get(shard.series, 0)}"
                )

    def _check(self, shard: Shard, held: Held) -> bool:
        """Whether a shard is whole; tells once when it has become so."""
        if held.end < min(self._counts.get(shard.series, 0), held.stop):
            return False
        if shard not in self._whole:
            self._whole.add(shard)
            log.debug("shard.loaded", series=shard.series, number=shard.number, points=held.count)
            self._filled(shard)
        return True

    def _find(self, shard: Shard) -> Held | None:
        return self._held.get(shard.series, {}).get(shard)
