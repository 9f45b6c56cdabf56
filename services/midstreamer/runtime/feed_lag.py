"""How many seconds a process is behind the change feed; pure.

A follower of the change feed knows only the position that it has reached itself.  Sync reports the
newest position of the feed to the follower with each renewal of its lease; a sync process learns
that position from PostgreSQL.  So the lag is the time since the process first learned of a position
that it has not reached yet.  While the process does not follow the feed, the lag is at least the
time since it stopped following.
"""

from __future__ import annotations

from collections import deque

MARKS_MAX = 1024
"""Maximum number of positions that are remembered until this process has reached them. When this
many are remembered, a new position replaces the greatest one. The least one, which decides the lag,
stays."""


class FeedLag:
    """Feed positions that one process knows of but has not reached, and the resulting lag."""

    def __init__(self, now_s: float) -> None:
        self._reached = -1
        self._marks: deque[tuple[int, float]] = deque()
        """For each unreached position: (position, time at which it became known), in rising
        order."""
        self._away_s: float | None = now_s
        """Time at which this process stopped following the feed; None while it follows the feed."""

    def heard(self, position: int, now_s: float) -> None:
        """Record that a change with this position exists in the feed.

        Ignored if this process has reached the position, or knows of it or a higher one already.
        """
        newest = self._marks[-1][0] if self._marks else self._reached
        if position <= newest:
            return
        if len(self._marks) == MARKS_MAX:
            self._marks.pop()
        self._marks.append((position, now_s))

    def reached(self, position: int) -> None:
        """Record that this process has applied all changes up to a position."""
        self._reached = position
        while self._marks and self._marks[0][0] <= position:
            self._marks.popleft()

    def forget(self, position: int) -> None:
        """Begin again at ``position``, because the data built from the feed was dropped.

        All positions that this process knew of but had not reached are dropped too.
        """
        self._reached = position
        self._marks.clear()

    def follows(self) -> None:
        """Record that this process follows the feed from now on."""
        self._away_s = None

    def left(self, now_s: float) -> None:
        """Record that this process has stopped following the feed."""
        self._away_s = now_s if self._away_s is None else self._away_s

    def lag_s(self, now_s: float) -> float:
        """Return how many seconds this process is behind the feed, as far as it knows."""
        since = [self._marks[0][1]] if self._marks else []
        if self._away_s is not None:
            since.append(self._away_s)
        return now_s - min(since, default=now_s)
