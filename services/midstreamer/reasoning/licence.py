"""The licence: signals are permitted only while the evidence shows that their precision holds.

Abstentions are judged as well, so the licence can be gained without signals. A *probe* is the most
confident fifth, or the most confident half, of the decisions. An imagined gambler bets that each
decision of a probe is right. The stake s is the share of its wealth that the gambler bets each
time. The verdict multiplies the gambler's wealth by ``1 + s (right - target) / target``, where
right is 1 if the decision was right, else 0. On average the wealth cannot grow unless the precision
exceeds the target. So the probability that the wealth ever grows by a factor 1/delta is at most
delta (Ville's inequality), however long one watches.

- Each pair of a series and a phase (position modulo horizon) is called a cell. Each cell has
  gamblers of its own, one for each probe and stake. Within one cell, each verdict is known before
  the next decision, as the inequality requires. The wealth of all gamblers is *averaged*: an
  average of fair games is fair even if the games depend on each other. A product over series that
  move together would not be fair.
- A gambler has half of its money at the start. It gets the other half in portions: one portion
  before each verdict that it has bet on. The portions are proportional to 1 / (n ln^2 n) for
  n = 2, 3, ..., so that early failures do not outweigh later skill. The gamblers of a new series
  start with the present average wealth.
- The licence needs an average wealth of 2/delta, and twice as much after each revocation. So the
  probability that a licence is ever granted wrongly is at most delta/2 + delta/4 + ... <= delta.
- There are two probes. The top fifth reveals skill that is great but limited to few decisions. The
  top half has more verdicts, so it reveals moderate skill sooner. When the licence is granted, the
  threshold starts at the lowest rank of the widest probe whose wealth reached the limit.

Whether a verdict is bet on is fixed when its decision is folded, before anything about its outcome
can be known: otherwise the game would not be fair.

While the licence is held, the threshold (a rank among recent confidences) is adjusted: down a
little after each right verdict, up after each wrong one, so that the error rate stays at 1 -
target. When the threshold reaches 1, the licence is revoked. Some signals have no verdict yet. They
are expected to be wrong as often as recent signals were; if that is too often, `bar` demands a
higher rank.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from midstreamer.domain.series import Floats
from midstreamer.domain.state import Licence, Pending

DELTA = 0.1
"""Upper limit on the probability that a licence is ever granted wrongly."""
PROBES = (0.2, 0.5)
"""Size of each probe, as a share of recent decisions: the most confident 20 % and 50 %."""
STAKES = (0.1, 0.3, 0.6, 0.9)
"""Stakes: the share of its wealth that a gambler bets each time, and loses if the decision was
wrong. Each stake has a gambler of its own."""
THRESHOLD_STEP = 0.02
"""Step of the threshold, in rank.

A wrong verdict raises the threshold by step * target, a right one lowers it by step * (1 - target).
"""
THRESHOLD_MIN = -0.1
"""Lowest threshold, in rank. At 0 or below, every decision passes.

It is less than 0 on purpose: after many right verdicts, a few wrong ones leave the threshold at 0
or below, so they hold no decision back."""
ERROR_STEP = 0.05
"""Weight of the newest verdict in the error rate of recent signals."""
DEALT = 0.5 / 2.1098
"""Factor for the portions of money that a gambler gets over time.

The portions are DEALT / (n ln^2 n) for n = 2, 3, ...; with this factor their sum is 1/2. The
gambler has the other half of its money at the start.
"""
WEALTH_MAX = 1e100
"""Cap on the wealth of one gambler, which would grow to infinity with repeated right decisions."""
CELL_BYTES = 8 * len(PROBES) * (len(STAKES) + 1)
"""Encoded size of one cell (one series and phase) in bytes: its wealth and its bet counts."""

_STAKES = np.array(STAKES)
_CUTS = tuple(1.0 - probe for probe in PROBES)
"""Lowest rank of each probe in `PROBES`: the most confident fifth has the ranks from 0.8 on."""


def initial() -> Licence:
    """Return a licence that is not held; its threshold is the lowest rank of the top fifth."""
    return Licence(held=False, threshold=max(_CUTS))


def judged(rank: float, *, held: bool, threshold: float) -> bool:
    """Return whether the verdict on a decision of this rank counts for the licence.

    While the licence is not held, the verdict counts if the rank is in at least one of the
    `PROBES`. Gamblers then bet on the verdict. While the licence is held, the verdict counts if the
    rank is in the top fifth or reaches the threshold. The verdict then moves the threshold.
    """
    if not held:
        return rank >= min(_CUTS)
    return rank >= min(max(threshold, 0.0), max(_CUTS))


def bar(licence: Licence, target: float) -> float:
    """Return the rank that a decision must reach now to become a signal.

    The rank is the threshold. If the error rate of recent signals is above 1 - ``target``, each
    signal without a verdict adds `THRESHOLD_STEP` times the difference. The rank is never below 0.
    """
    excess = max(0.0, licence.error_rate - (1.0 - target))
    return max(0.0, licence.threshold + THRESHOLD_STEP * licence.pending * excess)


def needed(revocations: int) -> float:
    """Return the wealth for which the licence is granted, after this number of revocations.

    The average wealth of all gamblers must reach it. It doubles with each revocation.
    """
    return 2.0 ** (1 + revocations) / DELTA


class Gate:
    """A mutable copy of the licence while events are added; `closed` returns the new licence."""

    def __init__(self, licence: Licence, *, target: float, horizon: int) -> None:
        self._target = target
        self._horizon = horizon
        self._held = licence.held
        self._threshold = licence.threshold
        self._error_rate = licence.error_rate
        self._pending = licence.pending
        self._revocations = licence.revocations
        self._series = {name: place for place, name in enumerate(licence.series)}
        shape = (len(self._series), horizon, len(PROBES))
        self._wealth = np.frombuffer(licence.wealth).reshape(*shape, len(STAKES)).copy()
        self._bets = np.frombuffer(licence.bets, dtype="<i8").reshape(shape).copy()

    @property
    def series_count(self) -> int:
        """Number of series seen so far."""
        return len(self._series)

    def decided(self, pending: Pending) -> Pending:
        """Record a decision, and return it with its ``epoch`` set.

        The epoch is -1 if the licence is held now, else the number of revocations so far. When the
        verdict arrives, `settled` reads the epoch: the verdict settles bets only if the licence was
        never held from the decision to the verdict.
        """
        if pending.series not in self._series:
            self._join(pending.series)
        self._pending += pending.emitted
        return msgspec.structs.replace(pending, epoch=-1 if self._held else self._revocations)

    def settled(self, pending: Pending, *, right: bool) -> None:
        """Record the verdict on a recorded decision.

        While the licence is held, the verdict adjusts the threshold; otherwise it settles bets.
        """
        if pending.emitted:
            self._pending -= 1
            self._error_rate += ERROR_STEP * (float(not right) - self._error_rate)
        if not pending.teaches:
            return
        if self._held:
            if judged(pending.rank, held=True, threshold=self._threshold):
                self._track(right=right)
        elif pending.epoch == self._revocations:
            self._bet(pending, right=right)

    def dropped(self, pending: Pending) -> None:
        """Remove a recorded decision whose outcome will never be known."""
        self._pending -= pending.emitted

    def closed(self) -> Licence:
        """Return the licence after all recorded events."""
        return Licence(
            self._held,
            self._threshold,
            self._error_rate,
            self._pending,
            self._revocations,
            tuple(self._series),
            self._wealth.tobytes(),
            self._bets.tobytes(),
        )

    def _join(self, series: str) -> None:
        """Add a series, with one gambler for each phase, probe and stake.

        Each new gambler starts with the average wealth of the gamblers already there that have the
        same probe and stake. The count of bets starts at the largest count that the probe has in
        any series already there. A gambler gets a portion of money before each verdict, and the
        portions shrink as the count grows. So with a smaller count, the gamblers of the new series
        would get larger portions than the gamblers of the other series.
        """
        if self._series:
            wealth = np.broadcast_to(self._wealth.mean(axis=(0, 1)), self._wealth.shape[1:])
            bets = np.broadcast_to(self._bets.max(axis=(0, 1)), self._bets.shape[1:])
        else:
            wealth = np.full((self._horizon, len(PROBES), len(STAKES)), 0.5)
            bets = np.zeros((self._horizon, len(PROBES)), dtype="<i8")
        self._series[series] = len(self._series)
        self._wealth = np.concatenate([self._wealth, wealth[np.newaxis]])
        self._bets = np.concatenate([self._bets, bets[np.newaxis]])

    def _bet(self, pending: Pending, *, right: bool) -> None:
        """Settle the bets on one verdict: update the wealth of each gambler that made one.

        Then grant the licence if the average wealth suffices now.
        """
        cell = (self._series[pending.series], pending.phase)
        growth = 1.0 + _STAKES / self._target * (float(right) - self._target)
        settled = [probe for probe, cut in enumerate(_CUTS) if pending.rank >= cut]
        for probe in settled:
            self._bets[(*cell, probe)] += 1
            n = float(self._bets[(*cell, probe)]) + 1.0
            fresh = DEALT / (n * math.log(n) ** 2)
            row = (self._wealth[(*cell, probe)] + fresh) * growth
            self._wealth[(*cell, probe)] = np.minimum(row, WEALTH_MAX)
        if settled:
            self._grant_if_proven()

    def _grant_if_proven(self) -> None:
        """Grant the licence if the average wealth of all gamblers reaches `needed`."""
        proven = self.evidence()
        need = needed(self._revocations)
        if float(proven.mean()) >= need:
            widest = max(probe for probe in range(len(PROBES)) if proven[probe] >= need)
            self._held, self._error_rate, self._threshold = True, 1.0, _CUTS[widest]

    def evidence(self) -> Floats:
        """Return the average wealth of the gamblers of each probe, float64, shape (probes,)."""
        return np.asarray(self._wealth.mean(axis=(0, 1, 3)))

    def _track(self, *, right: bool) -> None:
        """Adjust the threshold after a verdict; revoke the licence when the threshold reaches 1."""
        moved = self._threshold + THRESHOLD_STEP * (float(not right) - (1.0 - self._target))
        self._threshold = min(max(moved, THRESHOLD_MIN), 1.0)
        if self._threshold >= 1.0:
            self._held, self._threshold = False, max(_CUTS)
            self._revocations += 1
            self._wealth[:] = 0.5
            self._bets[:] = 0
