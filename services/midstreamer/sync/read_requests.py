"""Answers the reading requests Load, Lookup, Survey and Recall from the store.

The number of reads that run at once is limited, and so is the number that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import msgspec

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Column
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Answer, Member
from midstreamer.runtime import catalogue_pages
from midstreamer.runtime.admission import Admission
from midstreamer.runtime.peer import Peer
from midstreamer.store.store_interface import Run, Store
from midstreamer.sync import lookup_pages
from midstreamer.sync.config import SyncSettings
from midstreamer.telemetry import metrics

CONNECTIONS_KEPT = 3
"""Connections to PostgreSQL that no Load, Lookup or Survey may use.  One is for commits, one for
leases and one for Recall: a coordinator needs a learning state before it can decide."""
RECALLS_MAX = 1
"""Maximum Recall requests (reads of a learning state) that run at once."""
READS_WAITING_MAX = 1024
"""Maximum reads that wait for a connection.  At most half of them may come from one peer.  A link
has at most 256 open requests by default, so one link alone does not reach that half."""
OVERLOADED_S = 0.1
"""Seconds after which a refused read may be retried."""

Read: TypeAlias = frames.Load | frames.Lookup | frames.Survey | frames.Recall
"""The requests that read from the store."""
Visible: TypeAlias = Callable[[Peer], tuple[Member, ...]]
"""Function that returns the members that a peer may see."""


class Reads:
    """Answers reading requests and limits how many of them run at once."""

    def __init__(self, config: SyncSettings, store: Store, visible: Visible) -> None:
        """Read from ``store``; ``visible`` returns the members that a peer may see."""
        self._config = config
        self._store = store
        self._visible = visible
        # The store gives each free connection to the task that has waited longest.  Without this
        # limit, commits and leases would wait behind all waiting reads.
        self._places = Admission(
            max(1, config.connections - CONNECTIONS_KEPT),
            line=READS_WAITING_MAX,
            what="reads",
            queue="reads",
            setting="sync.connections - 3",
            retry_after_s=OVERLOADED_S,
        )
        self._recalls = Admission(
            RECALLS_MAX,
            line=READS_WAITING_MAX,
            what="learning states asked for",
            setting="RECALLS_MAX",
            retry_after_s=OVERLOADED_S,
        )

    @property
    def waiting(self) -> int:
        """Number of reads that wait for a connection."""
        return self._places.waiting

    def place(self, peer: Peer, frame: frames.Request) -> AbstractAsyncContextManager[None]:
        """Return a context that holds one place among the reads that run at once.

        Entering the context waits for the place.  It raises Overloaded when too many requests wait
        already, or when no place becomes free within the budget of the request.
        """
        deadline_s = asyncio.get_running_loop().time() + frame.budget_s
        places = self._recalls if isinstance(frame, frames.Recall) else self._places
        return places.place(peer.identity.name, deadline_s)

    async def answer(self, peer: Peer, frame: Read) -> Answer:
        """Answer one reading request.

        It waits for a place first, at most for the budget of the request.
        """
        async with self.place(peer, frame):
            match frame:
                case frames.Load():
                    return await self._load(frame)
                case frames.Lookup():
                    return await self._lookup(frame)
                case frames.Recall(stream=stream):
                    return await self._recall(stream)
                case frames.Survey():
                    catalogue_pages.check(frame)
                    return await self._survey(peer, frame.after)

    async def _load(self, load: frames.Load) -> frames.Loaded:
        if not 0 < len(load.runs) <= frames.RUNS_MAX:
            raise BadInput(
                f"a Load of {len(load.runs):,} runs of points, 1 to {frames.RUNS_MAX:,} are"
                " allowed: split it into several requests"
            )
        with metrics.SYNC_LATENCY_S.labels("load").time():
            runs = [Run(run.series, run.start, run.stop) for run in load.runs]
            found = await self._store.load(runs, self._config.load_points_max)
        parts = tuple(
            frames.Part(
                Column(run.series, part.times.tobytes(), part.values.tobytes()),
                part.start,
                part.count,
            )
            for run, part in zip(load.runs, found, strict=False)
        )
        return frames.Loaded(position=found[0].position, parts=parts)

    async def _lookup(self, lookup: frames.Lookup) -> frames.Experiences:
        if len(lookup.experience_ids) > frames.DECISIONS_MAX:
            raise BadInput(
                f"{len(lookup.experience_ids):,} experiences were asked for, at most"
                f" {frames.DECISIONS_MAX}: ask for fewer at once"
            )
        position = await self._store.position()
        decisions, verdicts = await self._store.experiences(lookup.experience_ids)
        answer = lookup_pages.answered(lookup.experience_ids, decisions, verdicts)
        return msgspec.structs.replace(answer, position=position)

    async def _survey(self, peer: Peer, after: str) -> frames.Surveyed:
        """Return one page of the catalogue.

        The first page also has the members, and the numbers of stored decisions, verdicts and
        ticks.
        """
        page = await self._store.catalogue(after, catalogue_pages.PAGE_SERIES)
        series = catalogue_pages.cut(page.series)
        answer = frames.Surveyed(
            position=page.position,
            series=series,
            shard_points=self._config.shard_points,
            more=page.more or len(series) < len(page.series),
        )
        if after:
            return answer
        totals = await self._store.totals()
        return msgspec.structs.replace(
            answer,
            members=self._visible(peer),
            decisions=totals.decisions,
            verdicts=totals.verdicts,
            ticks=totals.ticks,
        )

    async def _recall(self, stream: str) -> frames.Recalled:
        position, state = await self._store.state(stream)
        if state is None:
            return frames.Recalled(position=position, stream=stream)
        return frames.Recalled(
            position=position, stream=stream, version=state.version, state=state.body
        )
