"""The learning state of one stream. A decision depends on this state and on its evidence alone.

A state is one immutable value. `reasoning.learn` adds events to it in the order of event time, and
the change feed carries it. It is small on purpose, about 10 kB for twenty series; arrays are
little-endian bytes.

A decision may depend only on what is earlier than itself, and not on the order in which events
arrive. Therefore an event is not learned when it arrives. A decision is kept in ``waiting`` until a
decision of a later time arrives. A verdict is kept in ``known`` until a decision arrives that is
later than the verdict's due time.

Compare two states by their encoded bytes: ``==`` compares object identity only.
"""

from __future__ import annotations

import msgspec

from midstreamer.domain.specification import Specification


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """The fields of a decision that the state keeps until the verdict is folded."""

    experience_id: bytes
    series: str
    time: int
    phase: int
    """Position of the window's last point modulo the horizon.

    Outcomes of one series with equal phase never overlap."""
    arms: tuple[float, ...]
    """P(rise) of each arm (forecasting method), in the order of `reasoning.ARMS`."""
    doubt: float
    """1 - confidence: the smaller of P(rise) and P(fall).

    It is stored in place of the confidence, because floats are finer near 0 than near 1."""
    low: float
    """Lower end of the interval of the analogs' outcomes, before `Tracker.width` is applied.

    The unit is the decision's scale."""
    high: float
    """Upper end of the interval of the analogs' outcomes, before `Tracker.width` is applied.

    The unit is the decision's scale."""
    rank: float
    """Share of recent decisions with a lower confidence, 0 to 1."""
    emitted: bool
    """Whether the decision is a signal."""
    teaches: bool
    """Whether the stream learns from this forecast.

    False for a flat window, for stale data and for too few analogs.
    """
    epoch: int = -1
    """How often the licence had been revoked before this decision; -1 if the licence was held when
    the decision was made.

    The verdict settles bets (`Licence.bets`) only if the licence was never held from the decision
    to the verdict, both included.
    """


class Known(msgspec.Struct, frozen=True, array_like=True):
    """The fields of a verdict that the state keeps until the verdict is folded."""

    experience_id: bytes
    series: str
    time: int
    due_time: int
    outcome: float
    """The change over the horizon after the window, divided by the decision's scale."""
    hit: bool
    """Whether the direction that the probability favoured was right."""
    covered: bool
    """Whether the change lay in the prediction interval."""
    losses: tuple[float, ...]
    """Brier loss of each arm (forecasting method), in the order of `reasoning.ARMS`."""
    void: bool = False
    """Whether the decision was closed without an outcome; nothing is learned from it."""


class Tracker(msgspec.Struct, frozen=True, array_like=True):
    """State of the interval tracker, which widens the analogs' interval to the wanted coverage."""

    width: float | None = None
    """What is added to both sides of the interval, in units of the scale; None in warm-up.

    A negative width narrows the interval.
    """
    scores: bytes = b""
    """float64: the distance of each recent outcome from its analogs' interval.

    The distance is negative if the outcome lies inside the interval.
    """
    capped: bool = False
    """Whether the last update of ``width`` was limited by the largest allowed width."""
    caps: int = 0
    """How many updates of ``width`` were limited by the largest allowed width."""


class Licence(msgspec.Struct, frozen=True, array_like=True):
    """Whether signals may be emitted, and the rank that a decision must reach."""

    held: bool
    """Whether signals may be emitted."""
    threshold: float
    """Rank that a decision needs to become a signal.

    Right verdicts lower the threshold a little, and wrong verdicts raise it. While signals are
    pending, `reasoning.licence.bar` may demand more.
    """
    error_rate: float = 1.0
    """Error rate of recent signals; 1 when the licence is new.

    Signals that have no verdict yet are expected to be wrong at this rate
    (`reasoning.licence.bar`).
    """
    pending: int = 0
    """Number of signals without a verdict yet."""
    revocations: int = 0
    """How often the licence was revoked."""
    series: tuple[str, ...] = ()
    """Names of the series, in the order in which they appeared.

    The first axis of ``wealth`` and of ``bets`` has the series in this order.
    """
    wealth: bytes = b""
    """float64, shape (series, horizon, probes, stakes): present money of each imagined gambler.

    There is one gambler for each series, phase, probe and stake. It looks only at the decisions of
    its series and phase whose rank lies in its probe, and bets that each of them is right. The
    stake is the share of its money that it bets each time. If the share of right decisions is just
    the target precision, it neither gains nor loses on average."""
    bets: bytes = b""
    """int64, shape (series, horizon, probes): how many verdicts have been bet on.

    There is one count for each series, phase and probe. A series that appears later starts with the
    largest count that the probe has in any other series. With a smaller count, the new series would
    be given larger portions of wealth than the other series (`reasoning.licence`).
    """


class State(msgspec.Struct, frozen=True, eq=False, array_like=True):
    """Everything that was learned in one stream."""

    specification: Specification
    version: int
    """Number of events learned."""
    time: int
    """Time of the newest decision.

    Decisions of this time are kept in ``waiting``. A verdict is kept in ``known`` if the event time
    of its outcome, ``due_time``, is this time or later."""
    waiting: tuple[Pending, ...]
    """Decisions not learned yet, ordered by (time, series, experience id)."""
    known: tuple[Known, ...]
    """Verdicts not learned yet, ordered by (due time, series, time)."""
    losses: bytes
    """float64, shape (horizon, arms): for each `Pending.phase`, the summed Brier losses per arm."""
    slope: tuple[float, float]
    """Two sums over past verdicts, of d * d and of d * g; older verdicts weigh less.

    For each verdict, d is vote - climatology and g is rise - climatology. The vote is the share of
    rises among the analogs, shrunk towards climatology. The rise is 1 if the value rose, else 0.
    The ``calibrated`` arm uses the slope of the regression of g on d, computed from both sums."""
    tracker: Tracker
    licence: Licence
    doubts: bytes
    """float32: the doubt (1 - confidence) of each recent decision, oldest first.

    The rank of a new decision is the share of these doubts that are larger than its own doubt."""
    pending: dict[bytes, Pending]
    """Decisions learned but without a verdict yet, by experience id."""
    last: dict[str, int]
    """Time of the newest learned decision of each series."""

    @property
    def stream(self) -> str:
        """The name of the stream that this state belongs to."""
        return self.specification.stream
