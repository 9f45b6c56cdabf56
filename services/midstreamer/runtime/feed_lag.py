"""How far behind the change feed a process is, in seconds; pure.

A process that follows the feed sees only how far it has come.  How far the feed is it hears
elsewhere: with each renewal of its lease, and, if it is a sync, from PostgreSQL.  So the lag is the
time since the process heard of a position that it has not reached yet.  While it does not follow
the feed, the lag is at least the time since it last did.
"""

from __future__ import annotations

from collections import deque

MARKS_MAX = 1024
"""Positions kept; when there are more, the newest takes the place of the one before it."""


class FeedLag:
    """What one process has heard of the feed and not reached."""

    def __init__(self, now_s: float) -> None:
        self._reached = -1
        self._marks: deque[tuple[int, float]] = deque()
        """Positions that were heard of and not reached, rising, with the time of hearing."""
        self._away_s: float | None = now_s
        """Since when the feed is not followed; None while it is."""

    def heard(self, position: int, now_s: float) -> None:
        """The feed has this position."""
        newest = self._marks[-1][0] if self._marks else self._reached
        if position <= newest:
            return
        if len(self._marks) == MARKS_MAX:
            self._marks.pop()
        self._marks.append((position, now_s))

    def reached(self, position: int) -> None:
        """This process has everything up to a position."""
        self._reached = position
        while self._marks and self._marks[0][0] <= position:
            self._marks.popleft()

    def forget(self, position: int) -> None:
        """What was heard of beyond a position is not there after all."""
        self._reached = position
        self._marks.clear()

    def follows(self) -> None:
        """The feed is followed from here on."""
        self._away_s = None

    def left(self, now_s: float) -> None:
        """The feed is not followed any more."""
        self._away_s = now_s if self._away_s is None else self._away_s

    def lag_s(self, now_s: float) -> float:
        """Seconds behind, as far as is known."""
        since = [self._marks[0][1]] if self._marks else []
        if self._away_s is not None:
            since.append(self._away_s)
        return now_s - min(since, default=now_s)
