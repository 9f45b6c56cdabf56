"""Specification: what is compared and what is forecast. It is fixed for the life of a stream.

Everything that changes a result is a field of the specification, and so a part of the experience
id. Settings that change only the speed (engine, threads, agents) are not.

A specification can get new fields. Its digest names streams and experiences for ever, and an older
process refuses a field that it does not know. So a field that was added later is encoded only when
its value differs from its default. To add a field:

* write the field at the end with a plain default, for example ``trim: float = 1.0`` (a field with
  `_first` would always be encoded); with this default a specification must mean what it meant
  before the field existed;
* add its range to `check`;
* add specifications that set it to ``tests/recorded/specifications.json``; no existing line may
  change;
* let no client set it before every process of the fleet knows it: an older process refuses the
  specification and names the field (docs/explanation/decisions/0011).
"""

from __future__ import annotations

import functools
import hashlib
import math
from enum import StrEnum
from typing import TypeVar

import msgspec

from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.series import NAME_RULE, is_universe

WINDOW_MAX = 4096
"""Largest ``window`` of a specification, in points."""
HORIZON_MAX = 1024
"""Largest ``horizon`` of a specification, in points."""
NEIGHBOURS_MAX = 1000
"""Largest ``neighbours`` of a specification."""


_Value = TypeVar("_Value")


def _first(default: _Value) -> _Value:
    """Return a field that is encoded even when it has its default value.

    All fields that `Specification` had in its first version are such fields. Every existing digest
    was computed with these fields included.
    """
    # ``omit_defaults`` omits only plain default values, never the result of a default_factory.
    return msgspec.field(default_factory=lambda: default)


class Measure(StrEnum):
    """How the distance of two windows is computed, after each window is z-normalised."""

    DTW = "dtw"
    """Dynamic time warping."""
    LCSS = "lcss"
    """Longest common subsequence."""


class Transform(StrEnum):
    """What is applied to values before comparing: LOG suits prices, IDENTITY suits loads."""

    IDENTITY = "identity"
    LOG = "log"


class Scale(StrEnum):
    """Unit of outcomes: the usual size of a change, estimated from the window."""

    DEVIATION = "deviation"
    """Standard deviation of the window's values."""
    VOLATILITY = "volatility"
    """Standard deviation of the window's one-step changes, times sqrt(horizon)."""


class Specification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way to compare windows and to forecast, for one universe."""

    universe: str
    window: int = _first(64)
    """Number of points of a window, m."""
    horizon: int = _first(5)
    """Number of points ahead that the forecast is for, h."""
    neighbours: int = _first(100)
    """Number of nearest windows kept, k."""
    band: int = _first(3)
    """Half-width of the Sakoe-Chiba band: |i - j| <= band; 0 gives the Euclidean distance."""
    grid: int = _first(8)
    """Only windows that begin at a multiple of this number of points can be analogs.

    The grid is the same for every query. The usual alternative is to exclude the windows near each
    match (an exclusion zone). It is not used: the excluded windows would depend on which windows
    match best, and this would bias the outcomes of the matches.
    """
    measure: Measure = _first(Measure.DTW)
    epsilon: float = _first(0.0)
    """LCSS only: two normalised values match when they differ by at most this much."""
    transform: Transform = _first(Transform.LOG)
    scale: Scale = _first(Scale.VOLATILITY)
    target: float = _first(0.55)
    """Precision that signals must keep: the share of signals that are right."""
    coverage: float = _first(0.9)
    """Share of outcomes that the prediction interval must contain."""

    def __post_init__(self) -> None:
        # Callers may pass "log" instead of Transform.LOG; the field always holds the enum member.
        for name, kind in (("measure", Measure), ("transform", Transform), ("scale", Scale)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                msgspec.structs.force_setattr(self, name, _named(kind, name, value))
        # ``omit_defaults`` omits a value only if it is the same object as the default. A value
        # decoded from a frame is another object, even if it is equal. So put the default object in
        # its place.
        for name, default in _added(type(self)):
            if getattr(self, name) == default:
                msgspec.structs.force_setattr(self, name, default)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify this specification."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()[:16]

    @property
    def stream(self) -> str:
        """The name of the learning stream: all series of the universe under this specification."""
        return f"{self.universe}@{self.digest}"


@functools.cache
def _added(kind: type[Specification]) -> tuple[tuple[str, object], ...]:
    """Return the name and the default of each field that was added after the first version."""
    fields = msgspec.structs.fields(kind)
    return tuple(
        (field.name, field.default) for field in fields if field.default is not msgspec.NODEFAULT
    )


def _named(kind: type[StrEnum], field: str, value: object) -> StrEnum:
    """Return the enum member of this value; BadInput lists the members when there is none."""
    try:
        return kind(str(value))
    except ValueError:
        raise BadInput(
            f"specification.{field} = {quoted(value)} is unknown: use one of {', '.join(kind)}"
        ) from None


def check(specification: Specification) -> Specification:
    """Return the specification; BadInput names the first wrong field, its value and its limits."""
    rules = (
        ("window", specification.window, 4, WINDOW_MAX),
        ("horizon", specification.horizon, 1, HORIZON_MAX),
        ("neighbours", specification.neighbours, 1, NEIGHBOURS_MAX),
        ("band", specification.band, 0, specification.window),
        ("grid", specification.grid, 1, WINDOW_MAX),
        ("target", specification.target, 0.5, 0.999),
        ("coverage", specification.coverage, 0.5, 0.999),
        ("epsilon", specification.epsilon, 0.0, 1e6),
    )
    for name, value, least, most in rules:
        if not (math.isfinite(value) and least <= value <= most):
            raise BadInput(f"specification.{name} = {value} is outside {least} to {most}")
    if not is_universe(specification.universe):
        raise BadInput(
            f"specification.universe = {quoted(specification.universe)} is not a valid name:"
            f" use {NAME_RULE}"
        )
    return specification
