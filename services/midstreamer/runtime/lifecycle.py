"""One life for every service: starting, serving, draining, stopped.

`Machine` decides (`TRANSITIONS`); `Lifecycle` is what a service runs in.  It owns every background
task of the process, so nothing runs that nobody watches, and it says the stage in one metric and
one log event for all kinds of service.

A service's `run` reads as a list:

    async with life, AsyncExitStack() as ends:
        ...                                 # start, each step with its end
        life.serve()                        # everything is up
        await life.drain_asked()            # until a signal, or a request over mTLS
        await life.drained(self._drain())   # end what is under way, for at most drain_s
    # the ends, in reverse order

Draining cancels nothing.  Cancelling `run` skips it: that is the stop of tests, and of a process
that was told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from midstreamer.domain.errors import LocalProtocolError
from midstreamer.runtime.tasks import supervise
from midstreamer.telemetry import logs, metrics

DRAIN_S = 30.0

log = logs.get(__name__)


class Stage(StrEnum):
    """Where a process stands in its life."""

    STARTING = "starting"
    """It is not complete yet; requests may already be answered, or refused by name."""
    SERVING = "serving"
    """It does its part."""
    DRAINING = "draining"
    """It takes nothing new, and ends what is under way."""
    STOPPED = "stopped"
    """It has closed its links, or is closing them."""


# --- the core -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """Everything that the service needs is up."""


@dataclass(frozen=True)
class Asked:
    """Somebody wants the process to drain."""


@dataclass(frozen=True)
class Ended:
    """Draining is done or was cut short, or the service failed or was cancelled."""


Event = Started | Asked | Ended

TRANSITIONS: dict[Stage, dict[type[Event], Stage]] = {
    Stage.STARTING: {
        Started: Stage.SERVING,
        Asked: Stage.DRAINING,
        Ended: Stage.STOPPED,
    },
    Stage.SERVING: {Asked: Stage.DRAINING, Ended: Stage.STOPPED},
    # To be asked again changes nothing; what starts up late does not serve any more.
    Stage.DRAINING: {
        Asked: Stage.DRAINING,
        Started: Stage.DRAINING,
        Ended: Stage.STOPPED,
    },
    Stage.STOPPED: {Asked: Stage.STOPPED, Ended: Stage.STOPPED},
}


class Machine:
    """The stages of one process."""

    def __init__(self) -> None:
        self.stage = Stage.STARTING

    def handle(self, event: Event) -> bool:
        """Take an event in; whether the stage changed."""
        after = TRANSITIONS[self.stage].get(type(event))
        if after is None:
            raise LocalProtocolError(f"{type(event).__name__} while {self.stage}")
        before, self.stage = self.stage, after
        return after is not before


# --- the shell ----------------------------------------------------------------------------------


class Lifecycle:
    """The life of one process; use it with ``async with``, once."""

    def __init__(self, *, drain_s: float = DRAIN_S) -> None:
        self._machine = Machine()
        self._drain_s = drain_s
        self._asked = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self.running = False
        """Whether tasks can be started: from the beginning of ``async with`` to its end."""
        self._changed: list[Callable[[Stage], None]] = []
        self._owned: set[asyncio.Task[Any]] = set()

    @property
    def stage(self) -> Stage:
        """Where the process stands."""
        return self._machine.stage

    @property
    def draining(self) -> bool:
        """Whether it takes nothing new any more."""
        return self.stage in (Stage.DRAINING, Stage.STOPPED)

    def watch(self, changed: Callable[[Stage], None]) -> None:
        """Call this with the stage after each change."""
        self._changed.append(changed)

    def serve(self) -> None:
        """Everything is up."""
        self._handle(Started())

    def drain(self, why: str) -> None:
        """Begin to drain; later calls change nothing."""
        self._handle(Asked(), why=why)
        self._asked.set()

    def begin(self, why: str) -> bool:
        """Drain, if the process has come so far that there is something to drain."""
        if self.stage is Stage.STARTING:
            return False
        self.drain(why)
        return True

    async def drain_asked(self) -> None:
        """Return once somebody wants the process to drain."""
        await self._asked.wait()

    async def drained(self, work: Awaitable[None]) -> bool:
        """Await the service's own draining for at most ``drain_s``; whether it came to its end."""
        try:
            async with asyncio.timeout(self._drain_s):
                await work
        except TimeoutError:
            log.warning("process.drain_cut_short", drain_s=self._drain_s)
            return False
        return True

    # --- tasks ---

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that ends by itself, or with the process."""
        task = self._tasks.create_task(work, name=name)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    @asynccontextmanager
    async def background(
        self, name: str, work: Callable[[], Awaitable[None]], *, restart: bool = True
    ) -> AsyncIterator[None]:
        """Run ``work()``, again when it fails, until the block ends."""
        task = self.spawn(name, supervise(name, work, restart=restart))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self.running = True
        self._tell("")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle(Ended())
        self.running = False
        for task in tuple(self._owned):
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def _handle(self, event: Event, *, why: str = "") -> None:
        if self._machine.handle(event):
            self._tell(why)

    def _tell(self, why: str) -> None:
        for stage in Stage:
            metrics.STAGE.labels(stage).set(float(stage is self.stage))
        log.info("process.stage", stage=str(self.stage), **({"why": why} if why else {}))
        for changed in self._changed:
            changed(self.stage)
