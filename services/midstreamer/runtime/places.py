"""Divide a limited number of places fairly between identities; pure.

`Shares` counts how much each identity holds of a bounded amount (writes, bytes); one identity may
hold at most half of the amount.  `Places` adds a waiting line: a request that finds no free place
waits, and the next free place goes to the identity that holds the fewest places.

    enter -> ADMITTED        a place is free and the caller is below its share
          -> WAITING         not admitted, and the waiting line has room
          -> REFUSED         the waiting line has no room
    leave -> the keys of the requests that are admitted now

A caller is an identity and an ``origin``.  The origin is set where an identity asks on behalf of
others: a coordinator sends requests to an agent on behalf of its clients.  One origin may hold at
most half of its identity's share, so that long requests of one client leave places for another.
Within one identity, the next place goes to the origin that holds the fewest.

Requests of one caller are admitted in the order of their arrival.  The waiting line is bounded, and
one identity may fill at most half of it.  When the line is full, a request of an identity with few
waiting requests displaces a request of the identity with the most.  So one identity cannot keep the
others out by filling the line.

`runtime.admission` does the waiting.
"""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import TypeVar

Caller = tuple[str, str]
"""(identity, origin) of the sender of a request; the origin may be empty."""
_Key = TypeVar("_Key")


class Entry(StrEnum):
    """Result of asking for a place."""

    ADMITTED = "admitted"
    """The request has a place."""
    WAITING = "waiting"
    """The request is in the waiting line."""
    REFUSED = "refused"
    """The request got no place and no room in the waiting line."""


_ADMITTED = (Entry.ADMITTED, None)
_WAITING = (Entry.WAITING, None)
_REFUSED = (Entry.REFUSED, None)


def share_of(limit: int) -> int:
    """Return how much of ``limit`` one identity may hold: half of it, and at least 1."""
    return max(1, limit // 2)


class Shares:
    """How much of a bounded amount each identity holds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.share = share_of(limit)
        self.taken = 0
        """Amount held by all identities together."""
        self._held: dict[str, int] = {}

    def held(self, identity: str) -> int:
        """Return the amount that one identity holds."""
        return self._held.get(identity, 0)

    def fits(self, identity: str, amount: int = 1) -> bool:
        """Return whether an identity may take ``amount`` more.

        All identities together may not go above the limit.  An identity that already holds
        something may also not go above its share; an identity that holds nothing may go above its
        share.  If no identity holds anything, any amount fits: otherwise a write that is larger
        than the limit could never be sent.
        """
        held = self._held.get(identity, 0)
        return (not held or held + amount <= self.share) and (
            not self.taken or self.taken + amount <= self.limit
        )

    def take(self, identity: str, amount: int = 1) -> None:
        """Add ``amount`` to what an identity holds, whether or not it fits."""
        if amount:  # an identity that holds nothing must have no entry
            self.taken += amount
            self._held[identity] = self._held.get(identity, 0) + amount

    def give_back(self, identity: str, amount: int = 1) -> None:
        """Subtract ``amount`` from what an identity holds."""
        if not amount:
            return
        left = self._held[identity] - amount
        assert left >= 0  # noqa: S101 - the taker gives each amount back exactly once
        self.taken -= amount
        if left:
            self._held[identity] = left
        else:
            del self._held[identity]


class Places:
    """Places for requests, and the waiting line of requests that have none."""

    def __init__(self, limit: int, *, line: int | None = None) -> None:
        self.limit = limit
        self.share = share_of(limit)
        self._origin_share = share_of(self.share)
        self.line = limit if line is None else line
        """Maximum requests that wait at once."""
        self._line_share = share_of(self.line)
        self._inside: dict[int, Caller] = {}
        self._waiting: dict[int, Caller] = {}
        self._held: dict[str, int] = {}
        self._held_by: dict[Caller, int] = {}
        self._lines: dict[Caller, dict[int, int]] = {}
        """For each caller, its waiting requests, oldest first: {request's key: arrival number}."""
        self._in_line: dict[str, int] = {}
        self._arrivals = itertools.count()

    @property
    def taken(self) -> int:
        """Places that are taken, by all identities together."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """Requests in the waiting line."""
        return len(self._waiting)

    def held(self, identity: str) -> int:
        """Return how many places one identity holds."""
        return self._held.get(identity, 0)

    def waiting_of(self, identity: str) -> int:
        """Return how many requests of one identity are in the waiting line."""
        return self._in_line.get(identity, 0)

    def enter(self, key: int, identity: str, origin: str = "") -> tuple[Entry, int | None]:
        """Ask for a place for the request ``key``; return the result and a displaced key.

        The displaced key is that of a waiting request that lost its room in the waiting line to the
        request ``key``, or None.  The code that calls this method must refuse the displaced
        request.
        """
        caller = identity, origin
        if len(self._inside) < self.limit and self._may_have_more(caller):
            # No waiting request is passed over: when this place became free, `leave` looked for a
            # waiting request that may have the place, and found none.
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
        """Give a place back, or leave the waiting line; return the keys that are admitted now.

        A key that was displaced from the waiting line holds nothing, so for such a key this does
        nothing.
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
        """Return the key of the waiting request that makes room for a new request of ``caller``.

        Let A be the identity of ``caller``, and B the identity with the most waiting requests.  The
        longest caller of an identity is its caller with the most waiting requests.

        1. If A fills less than its share of the waiting line, and B has at least two more waiting
           requests than A: return the newest request of B's longest caller.
        2. Otherwise, if A's longest caller has at least two more waiting requests than ``caller``:
           return the newest request of A's longest caller.
        3. Otherwise return None: the new request is refused.
        """
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
        """Return the caller with the most waiting requests, among the callers of one identity."""
        callers = (caller for caller in self._lines if caller[0] == identity)
        return max(callers, key=lambda caller: len(self._lines[caller]))

    def _newest(self, caller: Caller) -> int:
        return next(reversed(self._lines[caller]))

    def _next(self) -> tuple[int, Caller] | None:
        """Return (key, caller) of the request to admit next; None if no request may be admitted.

        That is the oldest request of the caller with the fewest places, among the callers that are
        below their share.
        """
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
    """Return (arrival number, key) of the oldest request in one caller's line."""
    key = next(iter(line))
    return line[key], key
