"""How often one kind of log line is written: a token bucket for each event name.

Whoever can make us write a line for each packet can fill a disk.  So an event may come BURST times
at once and then PER_S times a second; what comes beyond is left out and counted, and the next line
that is written tells how many were.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST = 20
PER_S = 1.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float
    left_out: int = 0


class Throttle:
    """Decides for each line whether it is written; event names are a small closed set."""

    def __init__(self, *, burst: int = BURST, per_s: float = PER_S) -> None:
        self._burst = burst
        self._per_s = per_s
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, event: str, now_s: float) -> int | None:
        """How many lines of this event were left out before this one; None to leave it out."""
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
