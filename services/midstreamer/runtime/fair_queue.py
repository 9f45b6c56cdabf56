"""A queue served fairly: the identity that has been served the least is next.

Each identity has a line of its own, in the order of arrival.  Serving an entry adds its cost
(bytes, rows) to what its identity was served, and the identity that was served the least is next:
start-time fair queueing (Goyal, Vin and Cheng 1996).  An identity that had nothing waiting begins
with the figure of whoever was served last, so it neither saves up turns nor has to catch up.

Two orders are kept: that of the entries of one identity, and that of the entries on one *track* (a
series), of all identities.  If a later tick overtook an earlier one of its series, the earlier one
could never be stored.  So an entry is held back while an earlier one on one of its tracks waits.
The oldest entry of all is never held back, so something can always be served.

No loop, no clock.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class _Entry:
    key: int
    identity: str
    cost: int
    tracks: tuple[str, ...]
    arrival: int


@dataclass(slots=True)
class _Line:
    """What one identity has waiting, and how much it has been served."""

    served: int
    entries: deque[_Entry] = field(default_factory=deque)


class FairQueue:
    """Keys that wait, each of an identity."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._lines: dict[str, _Line] = {}
        self._tracks: dict[str, deque[_Entry]] = {}
        self._heads: list[tuple[int, int, str]] = []
        """(served, arrival, identity) of each line whose first entry is not held back. Entries
        that are out of date are dropped when they come up."""
        self._served = 0
        """What the last identity served had been served before; a new line begins here."""
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, key: int, identity: str, *, cost: int, tracks: Iterable[str] = ()) -> None:
        """Let a key wait."""
        entry = _Entry(key, identity, cost, tuple(dict.fromkeys(tracks)), next(self._arrivals))
        self._entries[key] = entry
        line = self._place(entry)
        if line.entries[0] is entry:
            self._offer(line)

    def put_back(self, key: int, identity: str, *, cost: int, tracks: Iterable[str] = ()) -> None:
        """Let a key that was served wait again, before everything else on its tracks."""
        order = -1 - next(self._arrivals)
        entry = _Entry(key, identity, cost, tuple(dict.fromkeys(tracks)), order)
        self._entries[key] = entry
        line = self._lines.setdefault(identity, _Line(self._served))
        line.entries.appendleft(entry)
        for track in entry.tracks:
            self._tracks.setdefault(track, deque()).appendleft(entry)
        self._offer(line)

    def peek(self) -> int | None:
        """The key that is next; None when nothing waits."""
        while self._heads:
            served, arrival, identity = self._heads[0]
            line = self._lines.get(identity)
            first = line.entries[0] if line and line.served == served else None
            if first and first.arrival == arrival and self._is_free(first):
                return first.key
            heapq.heappop(self._heads)
        return None

    def pop(self) -> int:
        """Take the key that is next; IndexError when nothing waits."""
        key = self.peek()
        if key is None:
            raise IndexError("nothing waits")
        heapq.heappop(self._heads)
        entry = self._entries.pop(key)
        line = self._lines[entry.identity]
        line.entries.popleft()
        self._served = max(self._served, line.served)
        line.served += entry.cost
        if line.entries:
            self._offer(line)
        else:
            del self._lines[entry.identity]
        for track in entry.tracks:
            self._advance(track)
        return key

    def discard(self, keys: Collection[int]) -> None:
        """Forget keys that need not be served any more."""
        gone = [self._entries.pop(key) for key in keys if key in self._entries]
        if not gone:
            return
        left, served = list(self._entries.values()), self._lines
        self._lines, self._tracks, self._heads = {}, {}, []
        for entry in sorted(left, key=lambda entry: entry.arrival):
            self._place(entry, served[entry.identity].served)
        for line in self._lines.values():
            self._offer(line)

    def _place(self, entry: _Entry, served: int | None = None) -> _Line:
        line = self._lines.get(entry.identity)
        if line is None:
            line = self._lines[entry.identity] = _Line(self._served if served is None else served)
        line.entries.append(entry)
        for track in entry.tracks:
            self._tracks.setdefault(track, deque()).append(entry)
        return line

    def _advance(self, track: str) -> None:
        """The first entry of a track was served: the next may have waited for it alone."""
        entries = self._tracks[track]
        entries.popleft()
        if not entries:
            del self._tracks[track]
            return
        line = self._lines[entries[0].identity]
        if line.entries[0] is entries[0]:
            self._offer(line)

    def _offer(self, line: _Line) -> None:
        """Make the first of a line known as a head, unless it is held back."""
        first = line.entries[0]
        if self._is_free(first):
            heapq.heappush(self._heads, (line.served, first.arrival, first.identity))

    def _is_free(self, entry: _Entry) -> bool:
        return all(self._tracks[track][0] is entry for track in entry.tracks)
