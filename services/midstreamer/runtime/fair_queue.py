"""A queue that serves identities fairly: the identity that has been served the least is next; pure.

Each identity has its own line of entries, in the order of arrival.  Serving an entry adds the
entry's cost (bytes, rows) to the total of its identity, and the identity with the smallest total is
next: start-time fair queueing (Goyal, Vin and Cheng 1996).  An identity without waiting entries
begins with the total of the identity that was served last, so it has neither credit nor debt.

Entries of one identity are served in the order of arrival, and so are all entries on one *track* (a
series), whatever their identity.  If a later tick of a series overtook an earlier tick, the earlier
tick could never be stored.  So an entry is held back while an earlier entry on one of its tracks
waits.  The oldest entry of all is never held back, so there is always an entry that can be served.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class _Entry:
    """One waiting key."""

    key: int
    identity: str
    cost: int
    tracks: tuple[str, ...]
    arrival: int


@dataclass(slots=True)
class _Line:
    """The waiting entries of one identity, and the total cost of its entries that were served."""

    served: int
    entries: deque[_Entry] = field(default_factory=deque)


class FairQueue:
    """A fair queue of keys, each of which belongs to an identity."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._lines: dict[str, _Line] = {}
        self._tracks: dict[str, deque[_Entry]] = {}
        self._heads: list[tuple[int, int, str]] = []
        """Heap with one item for each identity whose first waiting entry may be served.

        An item is (total cost served of the identity, arrival number of that entry, identity).
        Outdated items are dropped when they reach the top of the heap."""
        self._served = 0
        """Initial `_Line.served` of an identity that had no waiting entries.

        It is the highest total that any identity had just before one of its entries was served.
        With a total of 0, the identity would be served before all identities that already wait."""
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, key: int, identity: str, *, cost: int, tracks: Iterable[str] = ()) -> None:
        """Add a key at the end of the queue; keys with a common track (series) keep their order."""
        entry = _Entry(key, identity, cost, tuple(dict.fromkeys(tracks)), next(self._arrivals))
        self._entries[key] = entry
        line = self._place(entry)
        if line.entries[0] is entry:
            self._offer(line)

    def put_back(self, key: int, identity: str, *, cost: int, tracks: Iterable[str] = ()) -> None:
        """Add a served key again, in front of all other entries on its tracks (its series)."""
        order = -1 - next(self._arrivals)
        entry = _Entry(key, identity, cost, tuple(dict.fromkeys(tracks)), order)
        self._entries[key] = entry
        line = self._lines.setdefault(identity, _Line(self._served))
        line.entries.appendleft(entry)
        for track in entry.tracks:
            self._tracks.setdefault(track, deque()).appendleft(entry)
        self._offer(line)

    def peek(self) -> int | None:
        """Return the key that is next; None when the queue is empty."""
        while self._heads:
            served, arrival, identity = self._heads[0]
            line = self._lines.get(identity)
            first = line.entries[0] if line and line.served == served else None
            if first and first.arrival == arrival and self._is_free(first):
                return first.key
            heapq.heappop(self._heads)
        return None

    def pop(self) -> int:
        """Remove and return the key that is next; IndexError when the queue is empty."""
        key = self.peek()
        if key is None:
            raise IndexError("the queue is empty")
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
        """Remove keys that need not be served any more; unknown keys are ignored."""
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
        """Remove the first entry of a track (series), because this entry was served.

        While it waited, it held back the next entry of the track.  Put that next entry on the heap,
        if it is now the first in the line of its identity and the first on each of its tracks.
        """
        entries = self._tracks[track]
        entries.popleft()
        if not entries:
            del self._tracks[track]
            return
        line = self._lines[entries[0].identity]
        if line.entries[0] is entries[0]:
            self._offer(line)

    def _offer(self, line: _Line) -> None:
        """Put the first entry of an identity's line on the heap, unless the entry is held back.

        An entry is held back while an earlier entry on one of its tracks (series) waits.
        """
        first = line.entries[0]
        if self._is_free(first):
            heapq.heappush(self._heads, (line.served, first.arrival, first.identity))

    def _is_free(self, entry: _Entry) -> bool:
        return all(self._tracks[track][0] is entry for track in entry.tracks)
