"""When requests should begin: decided ahead, whatever the answers do.

A shape is a row of stages, each with a rate that goes in a straight line from one value to
another.  `arrivals` makes moments of it.  A request counts from its moment, not from when it was
really sent: a generator, or a server, that stops for a second is felt by every request that
should have begun in it.  (Counting from the sending instead is called coordinated omission.)
Pure: the seed decides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from midstreamer.domain.errors import BadInput

RATE_MAX = 1e6


class Spacing(StrEnum):
    """How requests of one rate follow each other."""

    POISSON = "poisson"
    """As those of many who do not know of each other."""
    CONSTANT = "constant"
    """One like the other."""


@dataclass(frozen=True)
class Stage:
    """Some seconds in which the rate goes from ``begin`` to ``end`` requests a second."""

    seconds: float
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise BadInput(f"stage of {self.seconds:g} s: give a time above 0")
        for rate in (self.begin, self.end):
            if not 0 <= rate <= RATE_MAX:
                raise BadInput(f"rate of {rate:g}/s: give one from 0 to {RATE_MAX:g}")

    @property
    def requests(self) -> float:
        """How many requests are due in it."""
        return self.seconds * (self.begin + self.end) / 2

    def when(self, requests: float) -> float:
        """Seconds from its begin at which so many are due; at most `requests` may be asked for."""
        slope = (self.end - self.begin) / self.seconds
        # The root of slope/2 t² + begin t = requests, in the form that loses nothing when flat.
        root = math.sqrt(max(0.0, self.begin * self.begin + 2 * slope * requests))
        return min(self.seconds, 2 * requests / (self.begin + root)) if requests else 0.0


def steady(seconds: float, rate: float) -> Stage:
    """A stage of one rate."""
    return Stage(seconds, rate, rate)


def rate_at(stages: Sequence[Stage], seconds: float) -> float:
    """The rate so many seconds after the begin; 0 when it is over."""
    for stage in stages:
        if seconds < stage.seconds:
            return stage.begin + (stage.end - stage.begin) * seconds / stage.seconds
        seconds -= stage.seconds
    return 0.0


def length_s(stages: Sequence[Stage]) -> float:
    """Seconds that all stages take."""
    return sum(stage.seconds for stage in stages)


def arrivals(
    stages: Sequence[Stage], *, seed: int, spacing: Spacing = Spacing.POISSON, share: float = 1.0
) -> Iterator[float]:
    """Moments at which requests are due, in seconds from the begin, in order.

    ``share`` is the part of the rate that this generator makes, when several make it together.
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
