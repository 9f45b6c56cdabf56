"""Options as they enter: each is checked once, by name, with the value seen and what is allowed."""

from __future__ import annotations

import math
import operator
import os

from midstreamer_kernels.errors import OptionError

MEASURES = ("dtw", "lcss")
THREADS_MAX = 256


def checked_measure(measure: str) -> str:
    """Return `measure` when it is one."""
    if measure not in MEASURES:
        raise OptionError(f"measure is {measure!r}: give one of {', '.join(MEASURES)}")
    return measure


def checked_count(value: int, *, name: str, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}: give a whole number") from None
    if number < least:
        raise OptionError(f"{name} is {number}: give at least {least}")
    if most is not None and number > most:
        raise OptionError(f"{name} is {number}: give at most {most}")
    return number


def checked_distance(value: float | None, *, name: str) -> float:
    """Return a number of at least 0; None is infinity."""
    if value is None:
        return math.inf
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} is {value!r}: give a number") from None
    if not number >= 0.0:
        raise OptionError(f"{name} is {number}: give 0 or more")
    return number


def checked_threads(value: int | None) -> int:
    """Return a number of threads; None is one for each processor that this process may use."""
    if value is not None:
        return checked_count(value, name="threads", most=THREADS_MAX)
    if hasattr(os, "sched_getaffinity"):
        return min(THREADS_MAX, len(os.sched_getaffinity(0)))
    return min(THREADS_MAX, os.cpu_count() or 1)
