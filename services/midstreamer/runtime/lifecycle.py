"""The stages of every service: starting, serving, draining, stopped.

`Machine` holds the stage and its rules (`TRANSITIONS`).  A service runs inside a `Lifecycle`, which
owns every background task of the process, so that no failure of a task goes unnoticed.  The
`Lifecycle` reports the stage in the same metric and log event for all kinds of service.

The ``run`` method of a service has these steps:

    async with life, AsyncExitStack() as ends:
        ...                                 # start the parts, and register how each is stopped
        life.serve()                        # everything is up
        await life.drain_asked()            # wait for a signal, or a drain request over mTLS
        await life.drained(self._drain())   # finish what is under way, for at most drain_s
    # the parts are stopped, in reverse order

Draining cancels no work.  Cancelling ``run`` skips the draining; tests stop a service that way.
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
"""Default of the maximum number of seconds that draining may take."""

log = logs.get(__name__)


class Stage(StrEnum):
    """Stages of a process, in order."""

    STARTING = "starting"
    """Some parts are not up yet. Requests may already be answered, or refused with a named error.
    """
    SERVING = "serving"
    """All parts are up, and requests are answered."""
    DRAINING = "draining"
    """The process takes no new work and finishes the work under way."""
    STOPPED = "stopped"
    """The process has closed its links or is closing them."""


# --- the core -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """Event: everything that the service needs is up."""


@dataclass(frozen=True)
class Asked:
    """Event: the process was asked to drain."""


@dataclass(frozen=True)
class Ended:
    """Event: draining is done or was cut short, or the service failed or was cancelled."""


Event = Started | Asked | Ended

TRANSITIONS: dict[Stage, dict[type[Event], Stage]] = {
    Stage.STARTING: {
        Started: Stage.SERVING,
        Asked: Stage.DRAINING,
        Ended: Stage.STOPPED,
    },
    Stage.SERVING: {Asked: Stage.DRAINING, Ended: Stage.STOPPED},
    # These events are ignored: a second request to drain changes nothing, and a start that
    # completes while the process drains does not make the process serve.
    Stage.DRAINING: {
        Asked: Stage.DRAINING,
        Started: Stage.DRAINING,
        Ended: Stage.STOPPED,
    },
    Stage.STOPPED: {Asked: Stage.STOPPED, Ended: Stage.STOPPED},
}


class Machine:
    """State machine of the stages of one process."""

    def __init__(self) -> None:
        self.stage = Stage.STARTING

    def handle(self, event: Event) -> bool:
        """Apply an event and return whether the stage changed.

        Raises LocalProtocolError when `TRANSITIONS` has no entry for the event in this stage.
        """
        after = TRANSITIONS[self.stage].get(type(event))
        if after is None:
            raise LocalProtocolError(
                f"lifecycle event {type(event).__name__} is not allowed in the stage {self.stage}"
            )
        before, self.stage = self.stage, after
        return after is not before


# --- the shell ----------------------------------------------------------------------------------


class Lifecycle:
    """Stage and background tasks of one process; enter it once, with ``async with``."""

    def __init__(self, *, drain_s: float = DRAIN_S) -> None:
        self._machine = Machine()
        self._drain_s = drain_s
        self._asked = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self.running = False
        """Whether `spawn` may be called: true inside the ``async with`` block."""
        self._changed: list[Callable[[Stage], None]] = []
        self._owned: set[asyncio.Task[Any]] = set()

    @property
    def stage(self) -> Stage:
        """The stage that the process is in."""
        return self._machine.stage

    @property
    def draining(self) -> bool:
        """Whether the process takes no new work any more: it drains or has stopped."""
        return self.stage in (Stage.DRAINING, Stage.STOPPED)

    def watch(self, changed: Callable[[Stage], None]) -> None:
        """Call ``changed`` with the new stage after each change of the stage."""
        self._changed.append(changed)

    def serve(self) -> None:
        """Report that all parts of the service are up.  The process then serves, unless it drains
        already."""
        self._handle(Started())

    def drain(self, why: str) -> None:
        """Begin to drain for the reason ``why``; later calls change nothing."""
        self._handle(Asked(), why=why)
        self._asked.set()

    def begin(self, why: str) -> bool:
        """Begin to drain and return True; return False if the process is still starting.

        A process that is starting has nothing to drain; the caller may cancel it instead.
        """
        if self.stage is Stage.STARTING:
            return False
        self.drain(why)
        return True

    async def drain_asked(self) -> None:
        """Return once the process was asked to drain."""
        await self._asked.wait()

    async def drained(self, work: Awaitable[None]) -> bool:
        """Await ``work``, the service's own draining, and return whether it finished in time.

        ``work`` is cancelled after ``drain_s`` seconds.
        """
        try:
            async with asyncio.timeout(self._drain_s):
                await work
        except TimeoutError:
            log.warning("process.drain_cut_short", drain_s=self._drain_s)
            return False
        return True

    # --- tasks ---

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that ends by itself, or is cancelled when the process stops."""
        task = self._tasks.create_task(work, name=name)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    @asynccontextmanager
    async def background(
        self, name: str, work: Callable[[], Awaitable[None]], *, restart: bool = True
    ) -> AsyncIterator[None]:
        """Run ``work()`` as a background task while the block runs.

        When ``work()`` fails, it is called again; without ``restart`` its error ends the process.
        """
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
