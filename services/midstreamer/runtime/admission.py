"""The shell of `runtime.places`: a request awaits its place until its deadline.

    async with admission.place(peer.identity.name, deadline_s):
        ...

A place is given back however the block ends.
"""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType

from midstreamer.domain.errors import Overloaded
from midstreamer.runtime.places import Entry, Places
from midstreamer.telemetry import queues


class Admission:
    """Places of one kind in this process."""

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
        """``queue`` is the word under which metrics show it, with what has a place counted too."""
        self._places = Places(limit, line=line)
        self._what = what
        self._setting = setting
        self._retry_after_s = retry_after_s
        self._keys = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[None], float]] = {}
        """Who waits, for what, and since when: the oldest first."""
        if queue:
            queues.watch(queue, self)

    @property
    def taken(self) -> int:
        """Places taken in all."""
        return self._places.taken

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self._places.waiting

    @property
    def depth(self) -> int:
        """Requests that have a place or wait for one."""
        return self.taken + self.waiting

    @property
    def room(self) -> int:
        """Requests that may have a place or wait for one, at most."""
        return self._places.limit + self._places.line

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest request has waited for a place; 0 when none waits."""
        return queues.age_s(since_s for _, _, since_s in self._waiting.values())

    def place(self, identity: str, deadline_s: float, *, origin: str = "") -> _Place:
        """A place for as long as the block lasts; Overloaded when none comes free in time."""
        return _Place(self, identity, origin, deadline_s)

    async def enter(self, identity: str, origin: str, deadline_s: float) -> int:
        """Take a place, waiting for it if need be; the key to `leave` with."""
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
        """Give a place back; whoever is next has it at once."""
        for admitted in self._places.leave(key):
            _, turn, _ = self._waiting[admitted]
            if not turn.done():  # else its caller is on its way to leave
                turn.set_result(None)

    async def _turn(self, key: int, identity: str, deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting[key] = identity, turn, loop.time()
        try:
            async with asyncio.timeout_at(deadline_s):
                await turn
        except Overloaded:  # another took its room in the line: `places` has forgotten it
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
                turn.exception()  # seen, even when its caller was cancelled at the same time

    def _refuse(self, key: int) -> None:
        identity, turn, _ = self._waiting[key]
        if not turn.done():
            turn.set_exception(self._overloaded(identity))

    def _overloaded(self, identity: str) -> Overloaded:
        places = self._places
        return Overloaded(
            f"{identity} holds {places.held(identity)} {self._what} and"
            f" {places.waiting_of(identity)} more wait; its share is {places.share},"
            f" {places.taken} are taken in all, {self._setting}={places.limit}: send fewer at"
            " once, or ask again later",
            retry_after_s=self._retry_after_s,
        )


class _Place:
    """One place, as a context. A class: a generator costs a request three times as much."""

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
