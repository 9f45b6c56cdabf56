"""Counts and percentiles of the requests of a load test, in little memory.

Durations are counted in buckets, and each bucket is 1 % wide: its upper limit is 1.01 times its
lower limit.  Percentiles are therefore exact to 1 % for any number of requests.  The tallies of
several processes can be merged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_S = 1e-6
"""Lower limit of the first bucket, in seconds; shorter durations are counted in this bucket too."""
STEP = 1.01
"""Upper limit of a bucket divided by its lower limit."""
_LOG_STEP = math.log(STEP)


@dataclass
class Durations:
    """A histogram of durations in seconds, with exact count, sum and maximum."""

    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    total_s: float = 0.0
    most_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration; durations below `LEAST_S` go into the first bucket."""
        self.buckets[math.floor(math.log(max(seconds, LEAST_S) / LEAST_S) / _LOG_STEP)] += 1
        self.count += 1
        self.total_s += seconds
        self.most_s = max(self.most_s, seconds)

    def merge(self, other: Durations) -> None:
        """Add the counts of another histogram."""
        self.buckets.update(other.buckets)
        self.count += other.count
        self.total_s += other.total_s
        self.most_s = max(self.most_s, other.most_s)

    def percentile(self, percent: float) -> float:
        """Return the duration that ``percent`` % of durations do not exceed; NaN if none exists."""
        if not self.count:
            return math.nan
        wanted, seen = math.ceil(self.count * percent / 100), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(self.most_s, LEAST_S * STEP ** (bucket + 1))
        return self.most_s


@dataclass
class Requests:
    """Results of all requests of one type."""

    latency: Durations = field(default_factory=Durations)
    """Times from the planned start to the answer, of requests that succeeded."""
    service: Durations = field(default_factory=Durations)
    """Times from the sending to the answer; unlike latency, without the delay of a late start."""
    failures: Counter[str] = field(default_factory=Counter)
    """Number of failed requests by error code."""

    @property
    def count(self) -> int:
        """The number of requests that have ended, with success or failure."""
        return self.latency.count + self.failures.total()

    def merge(self, other: Requests) -> None:
        """Add the results of requests of the same type from another tally."""
        self.latency.merge(other.latency)
        self.service.merge(other.service)
        self.failures.update(other.failures)


@dataclass
class Tally:
    """Results of requests by type, of one stage or of a whole load test."""

    requests: dict[str, Requests] = field(default_factory=dict)
    late: Durations = field(default_factory=Durations)
    """Times from the planned start of requests to their sending: delays of a busy generator."""

    def ok(self, name: str, *, latency_s: float, service_s: float) -> None:
        """Count a request that succeeded."""
        of = self._of(name)
        of.latency.add(latency_s)
        of.service.add(service_s)

    def failed(self, name: str, code: str) -> None:
        """Count a request that failed with an error code."""
        self._of(name).failures[code] += 1

    def sent(self, late_s: float) -> None:
        """Count a request that was sent ``late_s`` seconds after its planned start."""
        self.late.add(max(0.0, late_s))

    def merge(self, other: Tally) -> None:
        """Add the results of another tally."""
        for name, requests in other.requests.items():
            self._of(name).merge(requests)
        self.late.merge(other.late)

    @property
    def failures(self) -> int:
        """The number of failed requests of all types."""
        return sum(each.failures.total() for each in self.requests.values())

    def _of(self, name: str) -> Requests:
        return self.requests.setdefault(name, Requests())


# --- as JSON --------------------------------------------------------------------------------------


def plain(tally: Tally) -> dict[str, Any]:
    """Return a tally as a dict that can be written as JSON."""
    return {
        "late": plain_durations(tally.late),
        "requests": {
            name: {
                "latency": plain_durations(each.latency),
                "service": plain_durations(each.service),
                "failures": dict(each.failures),
            }
            for name, each in tally.requests.items()
        },
    }


def from_plain(made: Mapping[str, Any]) -> Tally:
    """Return the tally from a dict that `plain` returned."""
    requests = {
        name: Requests(
            durations(each["latency"]), durations(each["service"]), Counter(each["failures"])
        )
        for name, each in made["requests"].items()
    }
    return Tally(requests, durations(made["late"]))


def plain_durations(durations: Durations) -> dict[str, Any]:
    """Return durations as a dict that can be written as JSON."""
    return {
        "buckets": {str(bucket): count for bucket, count in durations.buckets.items()},
        "count": durations.count,
        "total_s": durations.total_s,
        "most_s": durations.most_s,
    }


def durations(made: Mapping[str, Any]) -> Durations:
    """Return the durations from a dict that `plain_durations` returned."""
    buckets = Counter({int(bucket): count for bucket, count in made["buckets"].items()})
    return Durations(buckets, made["count"], made["total_s"], made["most_s"])
