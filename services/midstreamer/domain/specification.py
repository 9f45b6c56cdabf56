"""What is compared and what is foretold: one Specification, fixed for a stream's life.

Everything that changes an answer is in it and therefore in the experience id; anything that
only changes speed (engine, threads, agents) is not.
"""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum

import msgspec

from midstreamer.domain.errors import BadInput, quoted
from midstreamer.domain.series import NAME_RULE, is_universe

WINDOW_MAX = 4096
HORIZON_MAX = 1024
NEIGHBOURS_MAX = 1000


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


class Specification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way of comparing and foretelling, for one universe."""

    universe: str
    window: int = 64
    """Points compared, m."""
    horizon: int = 5
    """Points foretold ahead, h."""
    neighbours: int = 100
    """Nearest windows kept, k."""
    band: int = 3
    """Sakoe-Chiba half-width: |i - j| <= band; 0 is the Euclidean distance."""
    grid: int = 8
    """Only windows that begin at a multiple of this are analogs: a fixed grid in time, never
    an exclusion zone, which biases what followed them."""
    measure: Measure = Measure.DTW
    epsilon: float = 0.0
    """LCSS only: two normalised values match when they differ by at most this."""
    transform: Transform = Transform.LOG
    scale: Scale = Scale.VOLATILITY
    target: float = 0.55
    """Precision that emitted signals must hold."""
    coverage: float = 0.9
    """Share of outcomes that the prediction interval must hold."""

    def __post_init__(self) -> None:
        # Typed by hand, "log" is as good as Transform.LOG; everywhere else it is the latter.
        for name, kind in (("measure", Measure), ("transform", Transform), ("scale", Scale)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                msgspec.structs.force_setattr(self, name, _named(kind, name, value))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name this specification."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()[:16]

    @property
    def stream(self) -> str:
        """The learning stream: all series of the universe under this specification."""
        return f"{self.universe}@{self.digest}"


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
