"""Asking sync for learning states, once for all who need the same one at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from midstreamer.coordinator.states import States
from midstreamer.domain.errors import DeadlineExceeded, RemoteProtocolError
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.protocol.frames import Answer, Learned, Recall, Recalled

RECALL_S = 30.0
"""Longest that one answer is waited for; who needs it may give up earlier."""


class Recaller:
    """States by specification, from the cache or from sync."""

    def __init__(
        self, states: States, ask: Callable[[Recall], Awaitable[Answer]], *, at_once: int
    ) -> None:
        """``at_once``: most that sync is asked for at a time; others wait for these."""
        self._states = states
        self._ask = ask
        self._places = asyncio.Semaphore(at_once)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def state(self, specification: Specification, deadline_s: float) -> State:
        """The newest state of a specification's stream; the initial one before any learning."""
        try:
            async with asyncio.timeout_at(deadline_s):
                while (state := self._states.state(specification)) is None:
                    await asyncio.shield(self._asked(specification.stream))
                return state
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"stream {specification.stream}: sync did not tell its state in time"
            ) from error

    async def close(self) -> None:
        """End the questions that are under way; nobody waits for them any more."""
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
            task.exception()  # seen, also when nobody waits any more

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
