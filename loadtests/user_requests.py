"""Data of load test users: the history that is searched, and the frames of requests. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from msgspec import structs

from loadtests import identities
from midstreamer.domain.series import Column, Window, column, window
from midstreamer.domain.specification import Specification
from midstreamer.market import datasets
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Request

DAY = 86_400_000_000
"""Microseconds of a day: the time between two points of the history."""
MINUTE = 60_000_000
"""Microseconds of a minute: the time between two ticks that a user appends."""
BEGIN = 1_577_836_800_000_000
"""The time of the first tick that a user appends: 2020-01-01, in microseconds since 1970."""
SERIES, POINTS = 20, 5_000
"""Size of the history: number of series, and number of points of each series."""


def specification() -> Specification:
    """Return the specification with which users search the universe `identities.HISTORY`.

    Except for the universe, it is that of the example data set ``sp500``.
    """
    return structs.replace(datasets.DATASETS["sp500"].specification, universe=identities.HISTORY)


def history() -> list[Column]:
    """Return `SERIES` positive random walks of `POINTS` points, the same in every call."""
    times = np.arange(POINTS, dtype=np.int64) * DAY
    columns = []
    for number in range(SERIES):
        steps = np.random.default_rng(number).normal(0.0, 0.01, POINTS)
        values = 100.0 * np.exp(np.cumsum(steps))
        columns.append(column(f"{identities.HISTORY}/{number:02d}", times, values))
    return columns


def windows(columns: list[Column], length: int) -> list[Window]:
    """Return 200 windows of this length that end within the last thousand points of the series."""
    found = []
    for number in range(200):
        chosen = columns[number % len(columns)]
        end = len(chosen) - 1 - (number * 37) % 1000
        values = chosen.values_array()[end - length + 1 : end + 1]
        found.append(window(values, series=chosen.series, time=int(chosen.times_array()[end])))
    return found


class Words:
    """Makes the request frames of one user; ``run`` is part of the name of the user's series."""

    def __init__(self, name: str, run: str, asked: list[Window], specification: Specification):
        self._series = f"{identities.TICKS}/{run}-{name}"
        self._windows, self._specification = asked, specification
        self._dice = random.Random(name)
        self._ticks: Iterator[int] = iter(range(10**9))

    def frame(self, kind: str) -> Request:
        """Return the next request of a type; type ``refusal`` is an append that must be refused."""
        match kind:
            case "append":
                return self._append(self._series)
            case "refusal":
                return self._append(f"{identities.FOREIGN}/{self._series.partition('/')[2]}")
            case "match":
                chosen = self._dice.choice(self._windows)
                return frames.Match(
                    specification=self._specification, windows=(chosen,), record=False
                )
            case "survey":
                return frames.Survey()
            case _:
                return frames.Lookup(experience_ids=())

    def _append(self, series: str) -> Request:
        number = next(self._ticks)
        times = np.array([BEGIN + number * MINUTE], dtype=np.int64)
        ticks = column(series, times, np.array([100.0 + self._dice.random()]))
        return frames.Append(columns=(ticks,))
