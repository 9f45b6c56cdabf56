"""The I/O of the outbox: send one Write after another to sync, while callers await a Receipt."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from midstreamer.coordinator import outbox
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.coordinator.stored_items import Item, Receipt
from midstreamer.domain import errors
from midstreamer.protocol import frames
from midstreamer.runtime.core_timer import Wakeups
from midstreamer.telemetry import queues, tracing

Ask = Callable[[frames.Write, float], Awaitable[frames.Answer]]
"""A function that sends a Write to sync and returns the answer of sync. Its second argument is the
timeout in seconds."""


class Writer:
    """Runs an `outbox.Outbox`: sends its Writes one at a time, and gives each caller a Receipt."""

    def __init__(
        self, ask: Ask, limits: outbox.Limits | None = None, *, budget_s: float = 10.0
    ) -> None:
        self._outbox = outbox.Outbox(limits or outbox.Limits())
        self._ask = ask
        self._budget_s = budget_s
        self._keys = itertools.count(1)
        self._results: dict[int, tuple[asyncio.Future[Receipt], float]] = {}
        """By key, for each item that is neither stored nor refused: the future of its Receipt, and
        the loop time at which the item was offered.  The oldest item comes first."""
        self._posts: asyncio.Queue[frames.Write] = asyncio.Queue()
        self._wakeups = Wakeups(
            self._outbox.next_wakeup_s, lambda now_s: self._handle(outbox.Tick(), now_s)
        )
        self._empty = asyncio.Event()
        self._empty.set()
        queues.watch("outbox", self)

    @property
    def depth(self) -> int:
        """Number of items that are neither stored nor refused yet."""
        return self._outbox.depth

    @property
    def room(self) -> int:
        """Number of items that the outbox has room for: the largest possible `depth`."""
        return self._outbox.limits.items_max

    @property
    def oldest_s(self) -> float:
        """Age in seconds of the oldest item that is neither stored nor refused; 0 without one."""
        return queues.age_s(since_s for _, since_s in self._results.values())

    def offer(self, item: Item) -> asyncio.Future[Receipt]:
        """Queue an item and return the future of its Receipt.  Raise Overloaded when the outbox
        has no room for the item."""
        key = next(self._keys)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Receipt] = loop.create_future()
        self._results[key] = result, loop.time()
        self._handle(outbox.Offered(key, item))
        if result.done() and (error := result.exception()) is not None:
            raise error
        return result

    async def flushed(self) -> None:
        """Return when every item has been stored or refused."""
        # Do not await the futures of the items: a caller may cancel its future while the item
        # still waits to be stored.
        await self._empty.wait()

    async def run(self) -> None:
        """Send Writes, and retry those that fail, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(), name="outbox.send")
            tasks.create_task(self._wakeups.run(), name="outbox.watch")

    async def _send(self) -> None:
        while True:
            write = await self._posts.get()
            try:
                # A Write has items of many callers.  Its span belongs to the trace of the first
                # caller whose trace is recorded.
                with tracing.within(_first_trace(write)):
                    answer = await self._ask(write, self._budget_s)
            except errors.MidstreamerError as error:
                self._handle(outbox.Failed(write.sequence, error))
                continue
            assert isinstance(answer, frames.Written)  # noqa: S101 - our own peer layer matched it
            self._handle(outbox.Answered(write.sequence, answer))

    def _handle(self, event: outbox.Event, now_s: float | None = None) -> None:
        now_s = asyncio.get_running_loop().time() if now_s is None else now_s
        for effect in self._outbox.handle(event, now_s):
            match effect:
                case outbox.Post(write):
                    self._posts.put_nowait(write)
                case outbox.Settle(key, receipt):
                    result, _ = self._results.pop(key)
                    if not result.done():
                        result.set_result(receipt)
                case outbox.Reject(key, error):
                    result, _ = self._results.pop(key)
                    if not result.done():
                        result.set_exception(error)
        if self._outbox.depth:
            self._empty.clear()
        else:
            self._empty.set()
        self._wakeups.changed()


def _first_trace(write: frames.Write) -> str:
    return next((caller.trace for caller in write.callers if caller.trace), "")


def limits_of(config: CoordinatorSettings) -> outbox.Limits:
    """Return the limits of the outbox from the settings."""
    return outbox.Limits(
        items_max=config.outbox_items_max,
        bytes_max=config.outbox_bytes_max,
        batch_bytes_max=config.batch_bytes_max,
        items_setting="coordinator.outbox_items_max",
        bytes_setting="coordinator.outbox_bytes_max",
    )
