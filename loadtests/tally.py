"""What came of the requests: counts and percentiles, in little memory.

Durations go into buckets whose width grows with them: any percentile is right to 1 %, over any
number of requests.  Several processes add theirs up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_S = 1e-6
STEP = 1.01
"""Each bucket ends so much later than it begins."""
_LOG_STEP = math.log(STEP)


@dataclass
class Durations:
    """Seconds that something took, many times."""

    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    total_s: float = 0.0
    most_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one; what is below a microsecond counts as one."""
        self.buckets[math.floor(math.log(max(seconds, LEAST_S) / LEAST_S) / _LOG_STEP)] += 1
        self.count += 1
        self.total_s += seconds
        self.most_s = max(self.most_s, seconds)

    def merge(self, other: Durations) -> None:
        """Add what another one counted."""
        self.buckets.update(other.buckets)
        self.count += other.count
        self.total_s += other.total_s
        self.most_s = max(self.most_s, other.most_s)

    def percentile(self, percent: float) -> float:
        """Seconds that so many percent did not take longer than; NaN when nothing was counted."""
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
    """All requests of one type."""

    latency: Durations = field(default_factory=Durations)
    """From when each should have begun to its answer; those that succeeded."""
    service: Durations = field(default_factory=Durations)
    """From when it was sent: what a generator that waits for answers would have told."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many failed, by the code of the error."""

    @property
    def count(self) -> int:
        """How many were begun and have ended."""
        return self.latency.count + self.failures.total()

    def merge(self, other: Requests) -> None:
        """Add what another one counted."""
        self.latency.merge(other.latency)
        self.service.merge(other.service)
        self.failures.update(other.failures)


@dataclass
class Tally:
    """A whole load test."""

    requests: dict[str, Requests] = field(default_factory=dict)
    late: Durations = field(default_factory=Durations)
    """How much later than due requests were sent: the generator's own fault."""

    def ok(self, name: str, *, latency_s: float, service_s: float) -> None:
        """One request has had its answer."""
        of = self._of(name)
        of.latency.add(latency_s)
        of.service.add(service_s)

    def failed(self, name: str, code: str) -> None:
        """One request has failed."""
        self._of(name).failures[code] += 1

    def sent(self, late_s: float) -> None:
        """One request left, so much later than it was due."""
        self.late.add(max(0.0, late_s))

    def merge(self, other: Tally) -> None:
        """Add what another process counted."""
        for name, requests in other.requests.items():
            self._of(name).merge(requests)
        self.late.merge(other.late)

    @property
    def failures(self) -> int:
        """Of all types together."""
        return sum(each.failures.total() for each in self.requests.values())

    def _of(self, name: str) -> Requests:
        return self.requests.setdefault(name, Requests())


# --- as JSON --------------------------------------------------------------------------------------


def plain(tally: Tally) -> dict[str, Any]:
    """A tally as JSON can hold it."""
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
    """The tally that `plain` was given."""
    requests = {
        name: Requests(
            durations(each["latency"]), durations(each["service"]), Counter(each["failures"])
        )
        for name, each in made["requests"].items()
    }
    return Tally(requests, durations(made["late"]))


def plain_durations(durations: Durations) -> dict[str, Any]:
    """Durations as JSON can hold them."""
    return {
        "buckets": {str(bucket): count for bucket, count in durations.buckets.items()},
        "count": durations.count,
        "total_s": durations.total_s,
        "most_s": durations.most_s,
    }


def durations(made: Mapping[str, Any]) -> Durations:
    """The durations that `plain_durations` was given."""
    buckets = Counter({int(bucket): count for bucket, count in made["buckets"].items()})
    return Durations(buckets, made["count"], made["total_s"], made["most_s"])
