"""Rate limit for log lines: a token bucket for each event name; pure.

A peer that could cause a log line with each packet could fill a disk.  So an event is written at
most `BURST` times at once and then `PER_S` times a second.  Further lines are left out and counted,
and the next line that is written says how many were left out.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST = 20
"""Maximum log lines of one event name that are written at once."""
PER_S = 1.0
"""Maximum log lines per second, on average, for each event name."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float
    left_out: int = 0


class Throttle:
    """Decides for each log line whether it is written.

    A token bucket is kept for each event name, so event names must be a small closed set.
    """

    def __init__(self, *, burst: int = BURST, per_s: float = PER_S) -> None:
        self._burst = burst
        self._per_s = per_s
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, event: str, now_s: float) -> int | None:
        """Return None if this line must be left out.

        Else return how many lines of the event were left out since the last line of it was written.
        """
        bucket = self._buckets.get(event)
        if bucket is None:
            bucket = self._buckets[event] = _Bucket(self._burst, now_s)
        gained = max(0.0, now_s - bucket.filled_s) * self._per_s
        bucket.tokens = min(self._burst, bucket.tokens + gained)
        bucket.filled_s = now_s
        if bucket.tokens < 1.0:
            bucket.left_out += 1
            return None
        bucket.tokens -= 1.0
        before, bucket.left_out = bucket.left_out, 0
        return before
