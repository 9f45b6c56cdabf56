"""Row: one tick that was read from a line of a file. Its time and value are parsed and checked.

``time`` is ISO 8601 (without an offset: UTC) or whole microseconds since 1970-01-01 UTC; ``value``
is a finite number. `market.feeds` uses this module for every kind of file.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import TIME_MAX, TIME_MIN, TIME_RULE

HEADER = ("time", "series", "value")
"""Columns of a file, in this order."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(NamedTuple):
    """One tick and its line in the file."""

    line: int
    series: str
    time: int
    value: float


def number_of(text: str, series: str) -> float:
    """Return the number that the text stands for; raise BadInput if it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        shown = "empty" if not text.strip() else f"{text[:40]!r}, not a number"
        raise BadInput(
            f"value of {series} is {shown}; leave the line out when there is no value"
        ) from None
    if not math.isfinite(value):
        raise BadInput(
            f"value of {series} is {text.strip()}, not a finite number;"
            " leave the line out when there is no value"
        )
    return value


def instant_of(text: str) -> int:
    """Return microseconds since 1970-01-01 UTC, parsed from ISO 8601 or whole microseconds."""
    stripped = text.strip()
    if stripped.removeprefix("-").isdecimal():
        return _in_range(int(stripped), text)
    try:
        moment = datetime.fromisoformat(stripped)
    except ValueError:
        raise BadInput(
            f"time {text[:40]!r} is neither ISO 8601 (2020-01-31T14:30:00Z) nor whole microseconds"
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _in_range(time: int, text: str) -> int:
    """Return the time; BadInput when it is out of range."""
    if not TIME_MIN <= time <= TIME_MAX:
        raise BadInput(f"time {text[:40]!r} is out of range; {TIME_RULE}")
    return time


def instant(time: int) -> str:
    """Return a time as text for people.

    A time at midnight gives only its date. A time outside the years 1 to 9999 gives its
    microseconds.
    """
    try:
        moment = _EPOCH + time * _MICROSECOND
    except OverflowError:
        return str(time)
    if moment.time() == datetime.min.time():
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="auto")
