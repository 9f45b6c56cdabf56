"""What is compared and what is foretold: one Specification, fixed for a stream's life.

Everything that changes an answer is in it and therefore in the experience id; anything that
only changes speed (engine, threads, agents) is not.

A specification can grow.  The digest names streams and experiences for good, and an older process
refuses a field that it does not know; so a field that was added later is encoded only when it has
another value than its default.  To add one:

* write it at the end as ``trim: float = 1.0``, without `_first`; its default must mean what every
  specification meant before it existed;
* add its range to `check`;
* add specifications that set it to ``tests/recorded/specifications.json``; no line that is there
  may change;
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
HORIZON_MAX = 1024
NEIGHBOURS_MAX = 1000


_Value = TypeVar("_Value")


def _first(default: _Value) -> _Value:
    """A field of the first version: always encoded, because every digest so far holds it."""
    # ``omit_defaults`` recognises a plain default; the result of a function is never one.
    return msgspec.field(default_factory=lambda: default)


class Measure(StrEnum):
    """How two windows are compared, after z-normalising each on itself."""

    DTW = "dtw"
    LCSS = "lcss"


class Transform(StrEnum):
    """What is done to values first: prices want LOG, loads want IDENTITY."""

    IDENTITY = "identity"
    LOG = "log"


class Scale(StrEnum):
    """The unit of an outcome: what the window itself says is a usual change."""

    DEVIATION = "deviation"
    """Standard deviation of the window's values."""
    VOLATILITY = "volatility"
    """Standard deviation of the window's one-step changes, times sqrt(horizon)."""


class Specification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way of comparing and foretelling, for one universe."""

    universe: str
    window: int = _first(64)
    """Points compared, m."""
    horizon: int = _first(5)
    """Points foretold ahead, h."""
    neighbours: int = _first(100)
    """Nearest windows kept, k."""
    band: int = _first(3)
    """Sakoe-Chiba half-width: |i - j| <= band; 0 is the Euclidean distance."""
    grid: int = _first(8)
    """Only windows that begin at a multiple of this are analogs: a fixed grid in time, never
    an exclusion zone, which biases what followed them."""
    measure: Measure = _first(Measure.DTW)
    epsilon: float = _first(0.0)
    """LCSS only: two normalised values match when they differ by at most this."""
    transform: Transform = _first(Transform.LOG)
    scale: Scale = _first(Scale.VOLATILITY)
    target: float = _first(0.55)
    """Precision that emitted signals must hold."""
    coverage: float = _first(0.9)
    """Share of outcomes that the prediction interval must hold."""

    def __post_init__(self) -> None:
        # Typed by hand, "log" is as good as Transform.LOG; everywhere else it is the latter.
        for name, kind in (("measure", Measure), ("transform", Transform), ("scale", Scale)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                msgspec.structs.force_setattr(self, name, _named(kind, name, value))
        # A default is left out when it is the very object: 1.0 that a peer sent is another one.
        for name, default in _added(type(self)):
            if getattr(self, name) == default:
                msgspec.structs.force_setattr(self, name, default)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name this specification."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()[:16]

    @property
    def stream(self) -> str:
        """The learning stream: all series of the universe under this specification."""
        return f"{self.universe}@{self.digest}"


@functools.cache
def _added(kind: type[Specification]) -> tuple[tuple[str, object], ...]:
    """Name and default of each field that was added after the first version."""
    fields = msgspec.structs.fields(kind)
    return tuple((one.name, one.default) for one in fields if one.default is not msgspec.NODEFAULT)


def _named(kind: type[StrEnum], field: str, value: object) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        raise BadInput(
            f"specification.{field} = {quoted(value)} is none of {', '.join(kind)}"
        ) from None


def check(made: Specification) -> Specification:
    """Return the specification, or raise BadInput naming field, value and limit."""
    rules = (
        ("window", made.window, 4, WINDOW_MAX),
        ("horizon", made.horizon, 1, HORIZON_MAX),
        ("neighbours", made.neighbours, 1, NEIGHBOURS_MAX),
        ("band", made.band, 0, made.window),
        ("grid", made.grid, 1, WINDOW_MAX),
        ("target", made.target, 0.5, 0.999),
        ("coverage", made.coverage, 0.5, 0.999),
        ("epsilon", made.epsilon, 0.0, 1e6),
    )
    for name, value, least, most in rules:
        if not (math.isfinite(value) and least <= value <= most):
            raise BadInput(f"specification.{name} = {value} is outside {least} to {most}")
    if not is_universe(made.universe):
        raise BadInput(
            f"specification.universe = {quoted(made.universe)} is no universe: {NAME_RULE}"
        )
    return made
