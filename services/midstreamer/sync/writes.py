"""The queue of Writes, and the committer that commits them batch by batch.

The committer takes all waiting Writes, commits them in one transaction, and then answers.  When
more Writes wait than one transaction may hold, the queue serves the identities fairly
(`runtime.fair_queue`).  When PostgreSQL refuses a batch, the committer commits its Writes one by
one, so that only the bad Write fails.
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
from midstreamer.sync import forecast_metrics, write_planning
from midstreamer.sync.commit import Committed, Committer
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.postgres_health import CLASH_S, StoreHealth, is_away
from midstreamer.sync.write_parts import Given
from midstreamer.telemetry import logs, metrics, queues, tracing

CLASHES_MAX = 3
"""Maximum attempts to commit one batch when it conflicts with another transaction."""
OVERLOADED_S = 0.1
"""Seconds after which the peer may retry, if a Write was refused because the queue is full."""
STOPPING_S = 0.5
"""Seconds after which the peer may retry, if a request was refused because sync is stopping."""

log = logs.get(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A waiting Write, and the future that gets its answer."""

    given: Given
    answer: asyncio.Future[frames.Written]
    identity: str
    since_s: float

    @property
    def rows(self) -> int:
        write = self.given.write
        return sum(len(column) for column in write.columns) + len(write.decisions)


class Writes:
    """The bounded queue of Writes, and the committer that empties it."""

    def __init__(
        self,
        config: SyncSettings,
        committer: Committer,
        health: StoreHealth,
        committed: Callable[[Committed], None],
    ) -> None:
        """Call ``committed`` after each commit, before the Writes of this commit are answered."""
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
        """Number of Writes that wait for the next transaction."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """Maximum Writes that may wait for the next transaction."""
        return self._places.limit

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest Write has waited for a transaction; 0 when none waits."""
        return queues.age_s(waiting.since_s for waiting in self._waiting.values())

    async def write(self, peer: Peer, write: frames.Write) -> frames.Written:
        """Check and queue a Write, and return its answer after the commit.

        Raise BadInput for an invalid Write, and Overloaded when the queue, or the share of the
        peer's identity, is full.
        """
        write = write_planning.check_write(write)
        identity, places = peer.identity.name, self._places
        if not places.fits(identity):
            raise Overloaded(
                f"{places.held(identity):,} Writes of {identity} wait for PostgreSQL, the limit per"
                f" identity is {places.share:,}; {places.taken:,} Writes wait in all, the limit"
                f" sync.queue_writes_max is {places.limit:,}: send slower, or find out why"
                " PostgreSQL is slow",
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
        """Commit the waiting Writes, batch after batch, until cancelled.

        Only this method writes ticks and decisions in this process.
        """
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            await self._commit(self._batch())

    def refuse(self) -> None:
        """Refuse all waiting Writes as `unavailable`; called when this process stops."""
        batch = list(self._waiting.values())
        for waiting in batch:
            self._places.give_back(waiting.identity)
        self._order.discard(tuple(self._waiting))
        self._waiting.clear()
        self._fail(batch, stopping())

    # --- the committer ----------------------------------------------------------------------------

    def _batch(self) -> list[_Waiting]:
        """Remove and return the Writes of the next transaction, in the order of the fair queue."""
        batch: list[_Waiting] = []
        rows = 0
        cap = self._config.batch_rows
        while (key := self._order.peek()) is not None:
            if batch and rows + self._waiting[key].rows > cap:
                break
            waiting = self._waiting.pop(self._order.pop())
            self._places.give_back(waiting.identity)
            if not waiting.answer.done():  # else the peer is gone or the deadline has passed
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
        """Commit a batch; retry immediately if it conflicts with another transaction."""
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
        raise AssertionError("the last attempt neither returned nor raised")

    def _fail(self, batch: list[_Waiting], error: BaseException) -> None:
        if isinstance(error, StoreError):
            self._health.failed(error)
        elif not isinstance(error, MidstreamerError):
            log.error("commit.failed", exc_info=error)
            error = MidstreamerError("sync could not commit the Write: see the log of sync")
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    def _tell(self, batch: list[_Waiting], committed: Committed) -> None:
        """Publish a commit to the followers of the feed, then answer its Writes."""
        self._committed(committed)
        for waiting, outcome in zip(batch, committed.outcomes, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, MidstreamerError):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)
        metrics.WRITE_BATCH_ROWS.observe(committed.rows)
        forecast_metrics.count_ticks(committed.outcomes)
        forecast_metrics.count_verdicts(committed.verdicts)
        for verdict in committed.verdicts:
            if verdict.void:
                name = verdict.experience_id.hex()
                log.warning("verdict.void", experience=name, series=verdict.series)


def _commit_span(batch: Sequence[_Waiting]) -> AbstractContextManager[object]:
    """Return the tracing span of one transaction.

    The span belongs to the trace of the first traced request in the batch, and links to the traces
    of the other requests.
    """
    traces = traces_of([waiting.given.write for waiting in batch])
    first = traces[0] if traces else ""
    rows = sum(waiting.rows for waiting in batch)
    return tracing.span("commit", parent=first, links=traces[1:], rows=rows)


def traces_of(writes: Iterable[frames.Write]) -> list[str]:
    """Return the trace contexts of the callers of these Writes, without repeats.

    A caller whose request is not traced has no trace context.
    """
    named = (caller.trace for write in writes for caller in write.callers if caller.trace)
    return list(dict.fromkeys(named))


def stopping() -> Unavailable:
    """Return the error for requests to a sync that is stopping; the peer retries elsewhere."""
    return Unavailable("sync is stopping: retry here or at another sync", retry_after_s=STOPPING_S)
