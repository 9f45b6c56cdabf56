"""Checks of the options that callers pass.

Each option is checked once, where it enters the package. An `OptionError` names the option, its
value and the allowed values.
"""

from __future__ import annotations

import math
import operator
import os
from typing import Any

import numpy as np

from midstreamer_kernels.errors import OptionError

MEASURES = ("dtw", "lcss")
THREADS_MAX = 256
POSITION_MAX = 2**62  # greatest position in a history: the sum of two positions fits 64 bits


def checked_measure(measure: object) -> str:
    """Return `measure` if it is one of `MEASURES`; else raise `OptionError`."""
    if not isinstance(measure, str) or measure not in MEASURES:
        raise OptionError(f"measure is {measure!r}: give one of {', '.join(MEASURES)}")
    return measure


def checked_count(value: int, *, name: str, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `least` to `most`.

    Raises `OptionError` otherwise; `name` is the option's name in the message.
    """
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
    """Return the number `k` of matches to search for, at most `most`.

    A `k` of None means every match within `cutoff`, and then `cutoff` must be given. `of` names the
    items searched, for the message of `OptionError`.
    """
    if k is not None:
        return min(most, checked_count(k, name="k"))
    if cutoff is None:
        raise OptionError(f"k is None: give a number, or a cutoff to get all {of} within it")
    return most


def checked_distance(value: Any, *, name: str) -> float:
    """Return the option `name`, a distance of at least 0, as a float; None becomes infinity.

    Raises `OptionError` for a negative number, NaN, or anything that is not a number.
    """
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
    """Return `epsilon`, the greatest difference of two points that match by LCSS, at least 0.

    There is no default: None raises `OptionError`.
    """
    if value is None:
        raise OptionError(
            "measure lcss needs epsilon: give the greatest difference of two matching points"
        )
    return checked_distance(value, name="epsilon")


def checked_flag(value: object, *, name: str) -> bool:
    """Return `value` if it is True or False; else raise `OptionError`.

    Other types are refused because a string such as "no" would count as true.
    """
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} is {value!r}: give True or False")
    return bool(value)


def checked_position(value: int, *, name: str) -> int:
    """Return `value` as a position in a history, between -`POSITION_MAX` and `POSITION_MAX`.

    The position may lie outside of the history.
    """
    return checked_count(value, name=name, least=-POSITION_MAX, most=POSITION_MAX)


def checked_threads(value: int | None) -> int:
    """Return the number of threads, at most `THREADS_MAX`.

    None means one thread for each CPU that this process may use.
    """
    if value is not None:
        return checked_count(value, name="threads", most=THREADS_MAX)
    if hasattr(os, "sched_getaffinity"):
        return min(THREADS_MAX, len(os.sched_getaffinity(0)))
    return min(THREADS_MAX, os.cpu_count() or 1)
