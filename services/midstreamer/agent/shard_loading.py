"""The shards of one agent: loaded from sync and then kept current by the change feed.

One request to sync loads several shards. A shard is *whole* once it has all of its points that the
feed has announced. A load and the feed may bring the same points: they are recognised by their
positions, and skipped. When the answer to a load lacks points that the feed has announced, another
load requests these points. Shards change only on the event loop; no change contains an await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from midstreamer.agent.derived_data_limit import Derived
from midstreamer.agent.shard_data import Held
from midstreamer.domain.errors import MidstreamerError, Unavailable, shortened
from midstreamer.domain.series import Column
from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import Load, Loaded, Part, Run
from midstreamer.runtime.peer import Session
from midstreamer.telemetry import logs

RETRY_AFTER_S = 0.05
"""Seconds after which a coordinator should retry a search of a shard that this agent does not
hold."""
PAUSE_S = 0.5
"""Seconds to wait before a failed load is retried."""
TOGETHER_POINTS = 65_536
"""Approximate number of points in one request to sync, about one megabyte.  Several short shards
share a request, because separate requests would take one round trip for each shard."""
TOGETHER_MAX = 512
"""Maximum number of shards in one request to sync."""

log = logs.get(__name__)


class Library:
    """All shards that the agent holds, whole or still loading."""

    def __init__(
        self,
        session: Session,
        counts: Mapping[str, int],
        *,
        filled: Callable[[Shard], None],
        torn: Callable[[Shard], None],
        budget_s: float,
        derived: Derived | None = None,
    ) -> None:
        self._session = session
        self._counts = counts
        """Number of points of each series, after the changes of the feed that are applied so
        far."""
        self._filled = filled
        self._torn = torn
        self._budget_s = budget_s
        self._derived = derived or Derived()
        self._held: dict[str, dict[Shard, Held]] = {}
        self._whole: set[Shard] = set()
        self._wanted: asyncio.Queue[Shard] = asyncio.Queue()

    def hold(self, shard: Shard, points: int) -> None:
        """Start to load a shard; ``points`` is the shard size. When the shard is whole, the
        function ``filled`` of the constructor is called."""
        self._held.setdefault(shard.series, {}).setdefault(
            shard, Held(shard, points, self._derived)
        )
        self._wanted.put_nowait(shard)

    def drop(self, shard: Shard) -> None:
        """Remove a shard.  Searches under way keep the data that they use."""
        held = self._held.get(shard.series, {}).pop(shard, None)
        if held is not None:
            held.release()
        self._whole.discard(shard)

    def clear(self) -> None:
        """Remove all shards."""
        for several in self._held.values():
            for held in several.values():
                held.release()
        self._held.clear()
        self._whole.clear()

    def whole(self, shard: Shard) -> Held:
        """Return a whole shard, to be searched.  Raise Unavailable when the shard is not whole or
        not held."""
        held = self._find(shard)
        if held is None or shard not in self._whole:
            raise Unavailable(
                f"{shortened(shard.series)} shard {shard.number} is not held by this agent: it is"
                " still loading, or another agent holds it now",
                retry_after_s=RETRY_AFTER_S,
            )
        return held

    def take(self, start: int, column: Column) -> None:
        """Append new points of one series to every held shard that needs them. The change feed
        brought the points; ``start`` is the position of the first one."""
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
        """Load the requested shards, several in one request, until cancelled.

        Several tasks may run this method, so that several requests are under way at once.
        """
        while True:
            shards = [await self._wanted.get()]
            points = self._lacks(shards[0])
            while not self._wanted.empty() and len(shards) < TOGETHER_MAX:
                if points >= TOGETHER_POINTS:
                    break
                shards.append(self._wanted.get_nowait())
                points += self._lacks(shards[-1])
            try:
                await self._load(shards)
            except MidstreamerError as error:
                self._later(shards, error)
                await asyncio.sleep(PAUSE_S)

    def _later(self, shards: list[Shard], error: MidstreamerError) -> None:
        left = [s for s in shards if self._find(s) is not None and s not in self._whole]
        log.warning("shards.not_loaded", shards=len(left), code=error.code, detail=error.message)
        for shard in left:
            self._wanted.put_nowait(shard)

    def _lacks(self, shard: Shard) -> int:
        """Return how many points of a shard are missing; 0 when the shard is not held."""
        held = self._find(shard)
        if held is None:
            return 0
        return max(0, min(self._counts.get(shard.series, 0), held.stop) - held.end)

    async def _load(self, shards: list[Shard]) -> None:
        while shards := self._incomplete(shards):
            held = [self._held[shard.series][shard] for shard in shards]
            runs = tuple(
                Run(shard.series, loading.end, loading.stop)
                for shard, loading in zip(shards, held, strict=True)
            )
            answer = await self._session.ask(Load(runs=runs), budget_s=self._budget_s)
            assert isinstance(answer, Loaded)  # noqa: S101 - it answers a Load
            if not answer.parts:
                raise Unavailable(f"sync sent no points for {len(runs)} requested runs of points")
            for shard, part in zip(shards, answer.parts, strict=False):
                self._append(shard, part)

    def _incomplete(self, shards: list[Shard]) -> list[Shard]:
        """Return the shards that still lack points, without those that are no longer held. For each
        shard that has become whole, call ``filled``."""
        return [
            shard
            for shard in shards
            if (held := self._find(shard)) is not None and not self._check(shard, held)
        ]

    def _append(self, shard: Shard, part: Part) -> None:
        held, column = self._find(shard), part.column
        if held is None:
            return  # the shard was dropped while its points were requested
        times, values = column.times_array(), column.values_array()
        if not len(column) or not held.append(part.start, times, values):
            raise Unavailable(
                f"sync has {part.count} points of {shard.series}, but the change feed has announced"
                f" {self._counts.get(shard.series, 0)}: the load is retried"
            )

    def _check(self, shard: Shard, held: Held) -> bool:
        """Return whether a shard is whole; call ``filled`` when it has just become whole."""
        if held.end < min(self._counts.get(shard.series, 0), held.stop):
            return False
        if shard not in self._whole:
            self._whole.add(shard)
            log.debug("shard.loaded", series=shard.series, number=shard.number, points=held.count)
            self._filled(shard)
        return True

    def _find(self, shard: Shard) -> Held | None:
        return self._held.get(shard.series, {}).get(shard)
