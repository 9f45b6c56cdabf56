"""Options as they enter: each is checked once, by name, with the value seen and what is allowed."""

from __future__ import annotations

import math
import operator
import os
from typing import Any

import numpy as np

from midstreamer_kernels.errors import OptionError

MEASURES = ("dtw", "lcss")
THREADS_MAX = 256
POSITION_MAX = 2**62  # so that positions, and sums of two, fit 64 bits


def checked_measure(measure: object) -> str:
    """Return `measure` when it is one."""
    if not isinstance(measure, str) or measure not in MEASURES:
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


def checked_matches(k: int | None, cutoff: object, *, most: int, of: str) -> int:
    """Return how many matches are wanted, at most `most`; None is every one within a cutoff."""
    if k is not None:
        return min(most, checked_count(k, name="k"))
    if cutoff is None:
        raise OptionError(f"k is None: give a number, or a cutoff for all {of} within it")
    return most


def checked_distance(value: Any, *, name: str) -> float:
    """Return a number of at least 0; None is infinity."""
    if value is None:
        return math.inf
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise OptionError(f"{name} is {value!r}: give a number")
    if not number >= 0.0:
        raise OptionError(f"{name} is {number}: give 0 or more")
    return number


def checked_epsilon(value: float | None) -> float:
    """Return how far apart points may be that match by LCSS; there is no default."""
    if value is None:
        raise OptionError("measure lcss needs epsilon: how far apart matching points may be")
    return checked_distance(value, name="epsilon")


def checked_flag(value: object, *, name: str) -> bool:
    """Return `value` when it is True or False: a word such as "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} is {value!r}: give True or False")
    return bool(value)


def checked_position(value: int, *, name: str) -> int:
    """Return a position, which may lie outside of any history."""
    return checked_count(value, name=name, least=-POSITION_MAX, most=POSITION_MAX)


def checked_threads(value: int | None) -> int:
    """Return a number of threads; None is one for each processor that this process may use."""
    if value is not None:
        return checked_count(value, name="threads", most=THREADS_MAX)
    if hasattr(os, "sched_getaffinity"):
        return min(THREADS_MAX, len(os.sched_getaffinity(0)))
    return min(THREADS_MAX, os.cpu_count() or 1)
