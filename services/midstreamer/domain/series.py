"""Ticks, columns of ticks, windows: what comes in, as values.

Time is event time: microseconds since 1970-01-01 UTC, carried by ticks alone.  A series is
named ``<universe>/<name>``; windows are compared with the history of their whole universe.
Arrays cross boundaries as little-endian bytes, never as lists of floats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstreamer.domain.errors import BadInput, StaleTick, quoted

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DEFAULT_UNIVERSE = "default"
NAME_CHARACTERS_MAX = 128
_PART = r"(?!-)(?=[^/]*[A-Za-z0-9])[A-Za-z0-9_.^=:-]+"
_UNIVERSE = re.compile(rf"{_PART}\Z")
_NAME = re.compile(rf"{_PART}(/{_PART})?\Z")
NAME_RULE = (
    "letters, digits and . _ ^ = : -, with at least one letter or digit, not beginning with -,"
    f" at most {NAME_CHARACTERS_MAX} characters"
)
"""A name may become a file name or an argument of a command: so `..` and `-x` are none."""
TIME_MIN, TIME_MAX = -62_135_596_800_000_000, 253_402_300_799_999_999
"""Of a tick: the years 1 to 9999. Nanoseconds sent by mistake lie outside, and differences of two
times fit 64 bits."""
TIME_RULE = (
    f"times are microseconds since 1970-01-01 UTC, {TIME_MIN} to {TIME_MAX} (years 1 to 9999):"
    " send no other unit"
)
NO_64_BITS = f"does not fit 64 bits with a sign: {TIME_RULE}"


class Tick(NamedTuple):
    """One observation."""

    series: str
    time: int
    """Microseconds since 1970-01-01 UTC."""
    value: float


def qualified(name: str) -> str:
    """The full name of a series; one without a universe belongs to ``default``."""
    if len(name) > NAME_CHARACTERS_MAX or not _NAME.match(name):
        raise BadInput(
            f"series name {quoted(name)}: use <universe>/<name> or <name>, each part of {NAME_RULE}"
            " together"
        )
    return name if "/" in name else f"{DEFAULT_UNIVERSE}/{name}"


def fits_64_bits(time: int) -> bool:
    """Whether a time can be stored; one on the wire may have an unsigned 64 bits."""
    return -(2**63) <= time < 2**63


def is_universe(name: str) -> bool:
    """Whether this may be the name of a universe."""
    return len(name) <= NAME_CHARACTERS_MAX and _UNIVERSE.match(name) is not None


def universe_of(series: str) -> str:
    """The universe that a fully named series belongs to."""
    return series.partition("/")[0]


def plain(values: Floats) -> Floats:
    """The values with every zero positive, so that what is equal is equal to the byte."""
    return values + 0.0


class Column(msgspec.Struct, frozen=True):
    """Consecutive ticks of one series, times strictly increasing, values finite."""

    series: str
    times: bytes
    """int64, little-endian, shape (n,), microseconds since 1970-01-01 UTC."""
    values: bytes
    """float64, little-endian, shape (n,)."""

    def times_array(self) -> Integers:
        """The times, shape (n,), read-only."""
        return np.frombuffer(self.times, dtype="<i8")

    def values_array(self) -> Floats:
        """The values, shape (n,), read-only."""
        return np.frombuffer(self.values, dtype="<f8")

    def __len__(self) -> int:
        return len(self.times) // 8


def column(
    series: str, times: Iterable[int] | Integers, values: Iterable[float] | Floats
) -> Column:
    """Build a checked column; the first wrong tick is named with its place and value."""
    made = Column(
        qualified(series),
        _times(series, times),
        np.ascontiguousarray(np.fromiter(values, "<f8")).tobytes(),
    )
    return check_column(made)


def _times(series: str, times: Iterable[int] | Integers) -> bytes:
    try:
        return np.ascontiguousarray(np.fromiter(times, "<i8")).tobytes()
    except OverflowError:
        raise BadInput(f"{quoted(series)}: a time does not fit 64 bits; {TIME_RULE}") from None


def check_column(made: Column) -> Column:
    """The column, every zero positive; BadInput or StaleTick unless it keeps its promises."""
    if qualified(made.series) != made.series:
        raise BadInput(f"series {quoted(made.series)} in a column lacks its universe")
    if len(made.times) != len(made.values) or len(made.times) % 8:
        raise BadInput(
            f"column of {made.series}: {len(made.times)} B of times and"
            f" {len(made.values)} B of values are not two arrays of one length"
        )
    values, times = made.values_array(), made.times_array()
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        at = int(wrong[0])
        raise BadInput(
            f"{made.series} at {int(times[at])}: value {values[at]} is not a finite number;"
            " leave the tick out or repair it at its source"
        )
    outside = np.flatnonzero((times < TIME_MIN) | (times > TIME_MAX))
    if outside.size:
        raise BadInput(f"{made.series}: time {int(times[outside[0]])} is outside; {TIME_RULE}")
    back = np.flatnonzero(times[1:] <= times[:-1])
    if back.size:
        at = int(back[0]) + 1
        raise StaleTick(
            f"{made.series} at {int(times[at])}: not later than the tick before it,"
            f" {int(times[at - 1])}; send each series in time order"
        )
    values_plain = plain(values).tobytes()
    return made if values_plain == made.values else Column(made.series, made.times, values_plain)


def check_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, each as `check_column` gives it; BadInput for one without a tick.

    Many short columns are checked as one array: 1,024 of them take 1 ms instead of 6.
    """
    for made in columns:
        if not made.times and not made.values:
            raise BadInput(f"column of {quoted(made.series)}: no tick in it; leave it out")
    if len(columns) > 1 and _all_plain(columns):
        return tuple(columns)
    return tuple(check_column(made) for made in columns)


def _all_plain(columns: Sequence[Column]) -> bool:
    """Whether `check_column` would give each of these back as it is."""
    for made in columns:
        whole = len(made.times) == len(made.values) and len(made.times) % 8 == 0
        if not whole or qualified(made.series) != made.series:
            return False
    values = np.frombuffer(b"".join([made.values for made in columns]), "<f8")
    times = np.frombuffer(b"".join([made.times for made in columns]), "<i8")
    later = times[1:] > times[:-1]
    later[np.cumsum([len(made) for made in columns[:-1]]) - 1] = True  # from one to the next
    later &= (times[1:] >= TIME_MIN) & (times[1:] <= TIME_MAX)
    inside = bool(later.all()) and TIME_MIN <= times[0] <= TIME_MAX
    negative_zero = (values == 0) & np.signbit(values)
    return inside and bool(np.isfinite(values).all() and not negative_zero.any())


class Window(msgspec.Struct, frozen=True):
    """The last ``m`` values of a series, ending at ``time``."""

    series: str
    """Empty when the window belongs to no stored series (it is then never settled)."""
    time: int
    values: bytes
    """float64, little-endian, shape (m,), oldest first."""

    def array(self) -> Floats:
        """The values, shape (m,), read-only."""
        return np.frombuffer(self.values, dtype="<f8")


def window(values: Iterable[float] | Floats, *, series: str = "", time: int = 0) -> Window:
    """Build a window; BadInput names the first value that is not finite."""
    array = np.ascontiguousarray(np.fromiter(values, "<f8"))
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise BadInput(f"window value {int(wrong[0])} is {array[wrong[0]]}, not a finite number")
    return Window(qualified(series) if series else "", time, plain(array).tobytes())
