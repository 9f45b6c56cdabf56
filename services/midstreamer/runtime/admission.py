"""Limit how many requests run at once: each request waits for a place until its deadline.

    async with admission.place(peer.identity.name, deadline_s):
        ...

The place is given back when the block ends, even if the block raises an error.  `runtime.places`
decides who is admitted; this module does the waiting.
"""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType

from midstreamer.domain.errors import Overloaded
from midstreamer.runtime.places import Entry, Places
from midstreamer.telemetry import queues


class Admission:
    """The places for one kind of request in this process: a request runs while it holds a place."""

    def __init__(
        self,
        limit: int,
        *,
        what: str,
        setting: str,
        retry_after_s: float,
        line: int | None = None,
        queue: str = "",
    ) -> None:
        """Make ``limit`` places, for which at most ``line`` requests wait (default: ``limit``).

        ``what`` (a plural noun) and ``setting`` (the name of the limit) go into error messages.
        ``queue`` is the label of these places in the queue metrics, which count both the requests
        that wait and those that have a place.
        """
        self._places = Places(limit, line=line)
        self._what = what
        self._setting = setting
        self._retry_after_s = retry_after_s
        self._keys = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[None], float]] = {}
        """For each waiting request, by key: (identity, future that is resolved when the request
        gets a place, time at which it began to wait).  The oldest request comes first."""
        if queue:
            queues.watch(queue, self)

    @property
    def taken(self) -> int:
        """Places that are taken now, by all identities together."""
        return self._places.taken

    @property
    def waiting(self) -> int:
        """Requests that wait for a place now."""
        return self._places.waiting

    @property
    def depth(self) -> int:
        """Requests that have a place or wait for one."""
        return self.taken + self.waiting

    @property
    def room(self) -> int:
        """Maximum requests that may have a place or wait for one."""
        return self._places.limit + self._places.line

    @property
    def oldest_s(self) -> float:
        """Seconds for which the oldest waiting request has waited; 0 when none waits."""
        return queues.age_s(since_s for _, _, since_s in self._waiting.values())

    def place(self, identity: str, deadline_s: float, *, origin: str = "") -> _Place:
        """Return an async context manager that holds a place while its block runs.

        Entering raises Overloaded when no place becomes free before ``deadline_s``, a time of the
        event loop.  ``origin`` names the client on whose behalf the identity asks.
        """
        return _Place(self, identity, origin, deadline_s)

    async def enter(self, identity: str, origin: str, deadline_s: float) -> int:
        """Take a place, waiting until ``deadline_s`` if need be; return the key for `leave`.

        Raises Overloaded when the waiting line is full or the deadline passes.
        """
        key = next(self._keys)
        entry, displaced = self._places.enter(key, identity, origin)
        if displaced is not None:
            self._refuse(displaced)
        if entry is Entry.REFUSED:
            raise self._overloaded(identity)
        if entry is Entry.WAITING:
            await self._turn(key, identity, deadline_s)
        return key

    def leave(self, key: int) -> None:
        """Give a place back; the request that is next in the waiting line gets it at once."""
        for admitted in self._places.leave(key):
            _, turn, _ = self._waiting[admitted]
            # If the future is done, its task was cancelled or timed out. Then that task itself
            # gives the place back by `leave`.
            if not turn.done():
                turn.set_result(None)

    async def _turn(self, key: int, identity: str, deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[key] = identity, turn, loop.time()
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except Overloaded:
            # A newer request has displaced this request. `Places` has already removed this
            # request from the waiting line, so `leave` is not needed.
            raise
        except TimeoutError as error:
            self.leave(key)
            raise self._overloaded(identity) from error
        except BaseException:
            self.leave(key)
            raise
        finally:
            del self._waiting[key]
            if turn.done() and not turn.cancelled():
                turn.exception()  # marks it as retrieved, so that asyncio logs no warning

    def _refuse(self, key: int) -> None:
        identity, turn, _ = self._waiting[key]
        if not turn.done():
            turn.set_exception(self._overloaded(identity))

    def _overloaded(self, identity: str) -> Overloaded:
        places = self._places
        return Overloaded(
            f"{identity} has {places.held(identity)} {self._what} and"
            f" {places.waiting_of(identity)} more waiting; one identity may have {places.share},"
            f" all identities together have {places.taken} of {self._setting}={places.limit}:"
            " send fewer at once, or retry later",
            retry_after_s=self._retry_after_s,
        )


class _Place:
    """Async context manager that holds one place.

    It is a class because a context manager made from a generator would cost each request three
    times as much.
    """

    __slots__ = ("_admission", "_deadline_s", "_identity", "_key", "_origin")

    def __init__(self, admission: Admission, identity: str, origin: str, deadline_s: float) -> None:
        self._admission = admission
        self._identity = identity
        self._origin = origin
        self._deadline_s = deadline_s
        self._key = 0

    async def __aenter__(self) -> None:
        self._key = await self._admission.enter(self._identity, self._origin, self._deadline_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admission.leave(self._key)
