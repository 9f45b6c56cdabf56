"""Places of one kind, shared between identities: who may take one, who waits, who is next.

Two classes.  `Shares` counts what each identity holds of a bounded amount (writes, bytes): one
identity holds at most half of it.  `Places` adds a waiting line for requests: whoever finds no
place waits, and the next free place goes to the identity that holds the fewest.

    enter -> ADMITTED        a place is free and the identity is below its share
          -> WAITING         the line has room
          -> REFUSED         it has none
    leave -> the keys that are admitted now

Requests of one caller are admitted in the order they came.  The line is bounded too, one identity
has at most half of it, and when it is full an identity with few requests in it takes the room of
the newest request of the identity with the most.  So nobody keeps others out by waiting either.

A caller is an identity and, where one identity asks on behalf of others, an ``origin``: an agent
is asked by a coordinator on behalf of its clients.  One origin has at most half of its identity's
share, so that long requests of one leave places for another, and origins decide who of one identity
is next.

No loop, no clock: `runtime.admission` does the waiting.
"""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import TypeVar

Caller = tuple[str, str]
"""Identity and origin."""
_Key = TypeVar("_Key")


class Entry(StrEnum):
    """What came of asking for a place."""

    ADMITTED = "admitted"
    WAITING = "waiting"
    REFUSED = "refused"


_ADMITTED = (Entry.ADMITTED, None)
_WAITING = (Entry.WAITING, None)
_REFUSED = (Entry.REFUSED, None)


def share_of(limit: int) -> int:
    """Most of a limit that one identity may hold: half of it, and at least 1."""
    return max(1, limit // 2)


class Shares:
    """How much of a bounded amount each identity holds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.share = share_of(limit)
        self.taken = 0
        """In all."""
        self._held: dict[str, int] = {}

    def held(self, identity: str) -> int:
        """What one identity holds."""
        return self._held.get(identity, 0)

    def fits(self, identity: str, amount: int = 1) -> bool:
        """Whether it may be taken.

        An identity that holds nothing may take more than its share, and more than the limit when
        nobody holds anything: one large write could otherwise never be sent.
        """
        held = self._held.get(identity, 0)
        return (not held or held + amount <= self.share) and (
            not self.taken or self.taken + amount <= self.limit
        )

    def take(self, identity: str, amount: int = 1) -> None:
        """Count it, whether or not it fits."""
        if amount:  # nothing is kept of an identity that holds nothing
            self.taken += amount
            self._held[identity] = self._held.get(identity, 0) + amount

    def give_back(self, identity: str, amount: int = 1) -> None:
        """Count it off."""
        if not amount:
            return
        left = self._held[identity] - amount
        assert left >= 0  # noqa: S101 - each is given back once, by whoever took it
        self.taken -= amount
        if left:
            self._held[identity] = left
        else:
            del self._held[identity]


class Places:
    """Places for requests, and the line of those that wait for one."""

    def __init__(self, limit: int, *, line: int | None = None) -> None:
        self.limit = limit
        self.share = share_of(limit)
        self._origin_share = share_of(self.share)
        self.line = limit if line is None else line
        """Most requests that wait at once."""
        self._line_share = share_of(self.line)
        self._inside: dict[int, Caller] = {}
        self._waiting: dict[int, Caller] = {}
        self._held: dict[str, int] = {}
        self._held_by: dict[Caller, int] = {}
        self._lines: dict[Caller, dict[int, int]] = {}
        """Waiting keys of each caller with the number of their arrival, oldest first."""
        self._in_line: dict[str, int] = {}
        self._arrivals = itertools.count()

    @property
    def taken(self) -> int:
        """Places taken in all."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._waiting)

    def held(self, identity: str) -> int:
        """Places that one identity holds."""
        return self._held.get(identity, 0)

    def waiting_of(self, identity: str) -> int:
        """Requests of one identity in the line."""
        return self._in_line.get(identity, 0)

    def enter(self, key: int, identity: str, origin: str = "") -> tuple[Entry, int | None]:
        """Ask for a place; the second value is a key that left the line to make room."""
        caller = identity, origin
        if len(self._inside) < self.limit and self._may_have_more(caller):
            # Nobody waits who could have it: a place that is free was offered when it became so.
            self._admit(key, caller)
            return _ADMITTED
        if len(self._waiting) < self.line and self._in_line.get(identity, 0) < self._line_share:
            self._join(key, caller)
            return _WAITING
        displaced = self._displaced(caller)
        if displaced is None:
            return _REFUSED
        self._depart(displaced)
        self._join(key, caller)
        return Entry.WAITING, displaced

    def leave(self, key: int) -> list[int]:
        """Give a place back, or leave the line; whoever is admitted now.

        A key that has lost its room in the line has nothing to give back.
        """
        if key in self._waiting:
            self._depart(key)
        caller = self._inside.pop(key, None)
        if caller is None:
            return []
        _less(self._held, caller[0])
        _less(self._held_by, caller)
        admitted: list[int] = []
        while self._lines and (following := self._next()) is not None:
            (key, caller) = following
            self._depart(key)
            self._admit(key, caller)
            admitted.append(key)
        return admitted

    def _displaced(self, caller: Caller) -> int | None:
        """The request that leaves a full line for one of this caller; None: it has as many."""
        identity = caller[0]
        own = self._in_line.get(identity, 0)
        most = max(self._in_line, key=self._in_line.__getitem__, default=identity)
        if own < self._line_share and self._in_line.get(most, 0) > own + 1:
            return self._newest(self._longest(most))
        if not own:
            return None
        longest = self._longest(identity)
        fewer = len(self._lines.get(caller, ())) + 1 < len(self._lines[longest])
        return self._newest(longest) if fewer else None

    def _longest(self, identity: str) -> Caller:
        """Of the callers of one identity, the one with the most requests in line."""
        callers = (caller for caller in self._lines if caller[0] == identity)
        return max(callers, key=lambda caller: len(self._lines[caller]))

    def _newest(self, caller: Caller) -> int:
        return next(reversed(self._lines[caller]))

    def _next(self) -> tuple[int, Caller] | None:
        """The oldest request of the caller with the fewest places, of those below their share."""
        if len(self._inside) >= self.limit:
            return None
        first = min(
            (
                (self.held(caller[0]), self._held_by.get(caller, 0), *_oldest(line), caller)
                for caller, line in self._lines.items()
                if self._may_have_more(caller)
            ),
            default=None,
        )
        return None if first is None else (first[3], first[4])

    def _may_have_more(self, caller: Caller) -> bool:
        identity, origin = caller
        if origin and self._held_by.get(caller, 0) >= self._origin_share:
            return False
        return self._held.get(identity, 0) < self.share

    def _admit(self, key: int, caller: Caller) -> None:
        self._inside[key] = caller
        identity = caller[0]
        self._held[identity] = self._held.get(identity, 0) + 1
        self._held_by[caller] = self._held_by.get(caller, 0) + 1

    def _join(self, key: int, caller: Caller) -> None:
        self._waiting[key] = caller
        self._lines.setdefault(caller, {})[key] = next(self._arrivals)
        self._in_line[caller[0]] = self._in_line.get(caller[0], 0) + 1

    def _depart(self, key: int) -> None:
        caller = self._waiting.pop(key)
        line = self._lines[caller]
        del line[key]
        if not line:
            del self._lines[caller]
        _less(self._in_line, caller[0])


def _less(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _oldest(line: dict[int, int]) -> tuple[int, int]:
    """Arrival and key of whoever came first."""
    key = next(iter(line))
    return line[key], key
