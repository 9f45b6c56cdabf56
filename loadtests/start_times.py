"""The times at which requests should start; they are fixed in advance and ignore the answers.

A shape is a sequence of stages.  In each stage the rate changes linearly from one value to another.
`arrivals` returns the start times.  Latency is measured from the planned start, not from the time
of sending.  If a generator or a server stops for a second, the latency of every request planned in
this second therefore shows it.  (To measure from the time of sending would be the error known as
coordinated omission.)  The functions are pure: the seed determines the times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from midstreamer.domain.errors import BadInput

RATE_MAX = 1e6
"""Highest rate of a stage, in requests per second."""


class Spacing(StrEnum):
    """How the start times of requests are spaced at a given rate."""

    POISSON = "poisson"
    """Random intervals, like requests of many independent clients."""
    CONSTANT = "constant"
    """Equal intervals."""


@dataclass(frozen=True)
class Stage:
    """A time in which the rate changes linearly from ``begin`` to ``end`` requests per second."""

    seconds: float
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise BadInput(f"stage of {self.seconds:g} s: give a duration above 0")
        for rate in (self.begin, self.end):
            if not 0 <= rate <= RATE_MAX:
                raise BadInput(f"rate of {rate:g}/s: give a rate from 0 to {RATE_MAX:g}")

    @property
    def requests(self) -> float:
        """The number of requests that start in this stage."""
        return self.seconds * (self.begin + self.end) / 2

    def when(self, requests: float) -> float:
        """Return the seconds from the start of the stage until ``requests`` requests have started.

        ``requests`` must not exceed the number of requests that start in the whole stage.
        """
        slope = (self.end - self.begin) / self.seconds
        # The time t solves (slope / 2) t² + begin t = requests. This form of the solution is valid
        # for slope 0 too.
        root = math.sqrt(max(0.0, self.begin * self.begin + 2 * slope * requests))
        return min(self.seconds, 2 * requests / (self.begin + root)) if requests else 0.0


def steady(seconds: float, rate: float) -> Stage:
    """Return a stage with a constant rate."""
    return Stage(seconds, rate, rate)


def rate_at(stages: Sequence[Stage], seconds: float) -> float:
    """Return the rate at a time after the start of the shape; 0 after its end."""
    for stage in stages:
        if seconds < stage.seconds:
            return stage.begin + (stage.end - stage.begin) * seconds / stage.seconds
        seconds -= stage.seconds
    return 0.0


def length_s(stages: Sequence[Stage]) -> float:
    """Return the duration of all stages in seconds."""
    return sum(stage.seconds for stage in stages)


def arrivals(
    stages: Sequence[Stage], *, seed: int, spacing: Spacing = Spacing.POISSON, share: float = 1.0
) -> Iterator[float]:
    """Yield the start times of requests in ascending order, in seconds from the start of the shape.

    ``share`` is the part of the rate that this generator sends, if several generators share a load.
    """
    dice = random.Random(seed)
    begin_s = passed = 0.0
    due = 0.0
    ahead = iter(stages)
    stage = next(ahead, None)
    while True:
        due += dice.expovariate(1.0) if spacing is Spacing.POISSON else 1.0
        while stage is not None and passed + stage.requests * share < due:
            passed += stage.requests * share
            begin_s += stage.seconds
            stage = next(ahead, None)
        if stage is None:
            return
        yield begin_s + stage.when((due - passed) / share)
