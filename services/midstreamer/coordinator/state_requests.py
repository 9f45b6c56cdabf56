"""Request learning states from sync.  Callers that need the same state at the same time share one
request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from midstreamer.coordinator.states import States
from midstreamer.domain.errors import DeadlineExceeded, RemoteProtocolError
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.protocol.frames import Answer, Learned, Recall, Recalled

RECALL_S = 30.0
"""Timeout of one request to sync, in seconds.  A caller with an earlier deadline stops waiting
before that."""


class Recaller:
    """Returns the learning state of a specification, from the cache or from sync."""

    def __init__(
        self, states: States, ask: Callable[[Recall], Awaitable[Answer]], *, at_once: int
    ) -> None:
        """``ask`` sends a Recall to sync.  ``at_once`` is the maximum number of requests to sync at
        the same time; further requests wait."""
        self._states = states
        self._ask = ask
        self._places = asyncio.Semaphore(at_once)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def state(self, specification: Specification, deadline_s: float) -> State:
        """Return the newest state of a specification's stream, or the initial state if the stream
        has learned nothing yet.  Raise DeadlineExceeded when sync does not answer in time."""
        try:
            async with asyncio.timeout_at(deadline_s):
                while (state := self._states.state(specification)) is None:
                    await asyncio.shield(self._asked(specification.stream))
                return state
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"stream {specification.stream}: sync did not answer with its state before the"
                " deadline of the request: ask again, or with a larger budget"
            ) from error

    async def close(self) -> None:
        """Cancel all pending requests to sync; call it when no caller waits any more."""
        asking = set(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    def _asked(self, stream: str) -> asyncio.Task[None]:
        task = self._asking.get(stream)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._recall(stream), name="recall")
            self._asking[stream] = task
            task.add_done_callback(lambda done: self._done(stream, done))
        return task

    def _done(self, stream: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(stream, None)
        if not task.cancelled():
            task.exception()  # asyncio logs an exception that nobody reads, so read it

    async def _recall(self, stream: str) -> None:
        async with self._places:
            await self._recall_now(stream)

    async def _recall_now(self, stream: str) -> None:
        expected = self._states.expect(stream)
        try:
            answer = await self._ask(Recall(stream=stream))
            if not isinstance(answer, Recalled) or answer.stream != stream:
                raise RemoteProtocolError(
                    f"sync answered a Recall of {stream} with {type(answer).__name__}"
                )
            self._states.recalled(expected, Learned(stream, answer.version, answer.state))
        finally:
            self._states.unexpected(stream, expected)
