"""Writes: a bounded queue, and the one committer that empties it, a transaction at a time.

The committer takes everything that waits, commits it in one transaction and answers only then.
When more waits than one transaction takes, identities take turns (`runtime.fair_queue`).  When
PostgreSQL objects to a batch, its Writes are tried one by one, so that each fails alone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from midstreamer.domain.errors import MidstreamerError, Overloaded, StoreError, Unavailable
from midstreamer.protocol import frames
from midstreamer.runtime.fair_queue import FairQueue
from midstreamer.runtime.peer import Peer
from midstreamer.runtime.places import Shares
from midstreamer.sync import commit_metrics, planning
from midstreamer.sync.commit import Committed, Committer
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.health import CLASH_S, StoreHealth, is_away
from midstreamer.sync.parts import Given
from midstreamer.telemetry import logs, metrics, queues, tracing

CLASHES_MAX = 3
OVERLOADED_S = 0.1
STOPPING_S = 0.5

log = logs.get(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A Write and whoever awaits it."""

    given: Given
    answer: asyncio.Future[frames.Written]
    identity: str
    since_s: float

    @property
    def rows(self) -> int:
        write = self.given.write
        return sum(len(column) for column in write.columns) + len(write.decisions)


class Writes:
    """The queue in front of PostgreSQL."""

    def __init__(
        self,
        config: SyncSettings,
        committer: Committer,
        health: StoreHealth,
        committed: Callable[[Committed], None],
    ) -> None:
        """``committed`` is called after each commit, before those who asked are answered."""
        self._config = config
        self._committer = committer
        self._health = health
        self._committed = committed
        self._waiting: dict[int, _Waiting] = {}
        self._order = FairQueue()
        self._places = Shares(config.queue_writes_max)
        self._keys = itertools.count(1)
        self._came = asyncio.Event()
        queues.watch("writes", self)

    @property
    def depth(self) -> int:
        """Writes that wait for the next transaction."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """Writes that may wait for it."""
        return self._places.limit

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest write has waited for a transaction; 0 when none waits."""
        return queues.age_s(waiting.since_s for waiting in self._waiting.values())

    async def write(self, peer: Peer, write: frames.Write) -> frames.Written:
        """Check a Write, let it wait, and return what became of it."""
        write = planning.check_write(write)
        identity, places = peer.identity.name, self._places
        if not places.fits(identity):
            raise Overloaded(
                f"{places.held(identity):,} writes of {identity} wait for PostgreSQL, its share is"
                f" {places.share:,}; {places.taken:,} wait in all, sync.queue_writes_max="
                f"{places.limit:,}: send slower, or find out why PostgreSQL is slow",
                retry_after_s=OVERLOADED_S,
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[frames.Written] = loop.create_future()
        writer = peer.identity.uri, peer.incarnation
        self._queue(_Waiting(Given(writer, write), answer, identity, loop.time()))
        self._came.set()
        with tracing.each("commit.wait", traces_of([write])):
            return await answer

    def _queue(self, waiting: _Waiting) -> None:
        key, write = next(self._keys), waiting.given.write
        self._waiting[key] = waiting
        self._places.take(waiting.identity)
        self._order.push(
            key,
            waiting.identity,
            cost=waiting.rows,
            tracks=(column.series for column in write.columns),
        )

    async def run(self) -> None:
        """Commit whatever waits, again and again: the only writer of ticks and decisions."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            await self._commit(self._batch())

    def refuse(self) -> None:
        """Refuse what waits: nobody will commit it."""
        batch = list(self._waiting.values())
        for waiting in batch:
            self._places.give_back(waiting.identity)
        self._order.discard(tuple(self._waiting))
        self._waiting.clear()
        self._fail(batch, stopping())

    # --- the committer ----------------------------------------------------------------------------

    def _batch(self) -> list[_Waiting]:
        """What goes into the next transaction: of each identity in the order it came."""
        batch: list[_Waiting] = []
        rows = 0
        cap = self._config.batch_rows
        while (key := self._order.peek()) is not None:
            if batch and rows + self._waiting[key].rows > cap:
                break
            waiting = self._waiting.pop(self._order.pop())
            self._places.give_back(waiting.identity)
            if not waiting.answer.done():  # else its asker is gone or its deadline has passed
                batch.append(waiting)
                rows += waiting.rows
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            with metrics.SYNC_LATENCY_S.labels("commit").time(), _commit_span(batch):
                committed = await self._tried([waiting.given for waiting in batch])
        except Exception as error:
            if len(batch) > 1 and not is_away(error):
                for waiting in batch:
                    await self._commit([waiting])
            else:
                self._fail(batch, error)
            return
        except BaseException:
            self._fail(batch, stopping())
            raise
        self._tell(batch, committed)

    async def _tried(self, batch: list[Given]) -> Committed:
        """Commit; again at once when another transaction was in the way."""
        for left in reversed(range(CLASHES_MAX)):
            try:
                committed = await self._committer.commit(batch)
            except Exception as error:
                clashed = isinstance(error, StoreError) and 0 < error.retry_after_s <= CLASH_S
                metrics.COMMITS.labels("clashed" if clashed else "failed").inc()
                if not (clashed and left):
                    raise
            else:
                metrics.COMMITS.labels("committed").inc()
                return committed
        raise AssertionError("the last try returns or raises")

    def _fail(self, batch: list[_Waiting], error: BaseException) -> None:
        if isinstance(error, StoreError):
            self._health.failed(error)
        elif not isinstance(error, MidstreamerError):
            log.error("commit.failed", exc_info=error)
            error = MidstreamerError("the write failed at sync; its log says why")
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    def _tell(self, batch: list[_Waiting], committed: Committed) -> None:
        """After the commit: followers first, then those who asked."""
        self._committed(committed)
        for waiting, outcome in zip(batch, committed.outcomes, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, MidstreamerError):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        metrics.WRITE_BATCH_ROWS.observe(committed.rows)
        commit_metrics.count_ticks(committed.outcomes)
        commit_metrics.count_verdicts(committed.verdicts)
        for verdict in committed.verdicts:
            if verdict.void:
                name = verdict.experience_id.hex()
                log.warning("verdict.void", experience=name, series=verdict.series)


def _commit_span(batch: Sequence[_Waiting]) -> AbstractContextManager[object]:
    """One span for one transaction: in the trace of the first it is for, linked to the others."""
    traces = traces_of([waiting.given.write for waiting in batch])
    first = traces[0] if traces else ""
    rows = sum(waiting.rows for waiting in batch)
    return tracing.span("commit", parent=first, links=traces[1:], rows=rows)


def traces_of(writes: Iterable[frames.Write]) -> list[str]:
    """The spans that writes were asked in, each once, as far as their traces are kept."""
    named = (caller.trace for write in writes for caller in write.callers if caller.trace)
    return list(dict.fromkeys(named))


def stopping() -> Unavailable:
    """The refusal of a process that stops: its successor, or another sync, takes it."""
    return Unavailable("sync is stopping: ask another, or again", retry_after_s=STOPPING_S)
