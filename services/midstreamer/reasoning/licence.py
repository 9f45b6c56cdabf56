"""The licence to speak: a signal may be given only while the evidence says precision holds.

Every decision is judged, also an abstention, so silence can learn.  A *probe* is the most
confident share of decisions; its verdicts are bet on.  A bet of stake s on "right" multiplies
its wealth by ``1 + s (right - target) / target``: on average it cannot grow unless precision
exceeds the target, so wealth that multiplied by 1/delta happens with probability at most delta
(Ville's inequality) however long one looks.

- Bets are kept apart by series and phase of the delay (index modulo horizon), because within
  one such cell each verdict is known before the next decision.  Cells, stakes and probes are
  *averaged*: an average of fair games is fair under any dependence between them.  A sum or a
  product over series that move together would not be.
- Half of each cell's wealth starts at once, half is dealt out later as fresh starts (1 / n
  ln^2 n), so that early failure is not held against late skill.  A new series takes its share
  from the wealth there is.
- The licence needs an average of 2/delta, and twice as much after each revocation: the chance
  of a false licence, ever, is at most delta/2 + delta/4 + ... <= delta.
- Two probes: the top fifth proves strong skill of few, the top half is judged more often and
  so proves common skill sooner.  The threshold starts at the widest probe that proved itself.

Whether a verdict is bet on is settled when its decision is folded, before anything of its
outcome can be known: only then is the game fair.

Once licensed, the threshold (in ranks among recent confidences) tracks: down a little after
each right verdict, up after a wrong one, so that their share stays at 1 - target.  At 1 the
licence is revoked.  Signals whose verdict is still out are charged at the recent error rate.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from midstreamer.domain.series import Floats
from midstreamer.domain.state import Licence, Pending

DELTA = 0.1
"""P(a false licence, ever) stays at or below this."""
PROBES = (0.2, 0.5)
STAKES = (0.1, 0.3, 0.6, 0.9)
THRESHOLD_STEP = 0.02
THRESHOLD_MIN = -0.1
"""Below 0 everything is given; a little credit may be saved up."""
ERROR_STEP = 0.05
DEALT = 0.5 / 2.1098
"""So that fresh starts, 1 / (n ln^2 n) from n = 2 on, deal out one half in all."""
WEALTH_MAX = 1e100
CELL_BYTES = 8 * len(PROBES) * (len(STAKES) + 1)
"""Of one series and phase in the encoded licence: wealth, and how many bets."""

_STAKES = np.array(STAKES)
_CUTS = tuple(1.0 - probe for probe in PROBES)


def initial() -> Licence:
    """No licence; the threshold is where the narrowest probe begins."""
    return Licence(held=False, threshold=max(_CUTS))


def judged(rank: float, *, held: bool, threshold: float) -> bool:
    """Whether the verdict of a decision of this rank counts for the licence."""
    if not held:
        return rank >= min(_CUTS)
    return rank >= min(max(threshold, 0.0), max(_CUTS))


def bar(licence: Licence, target: float) -> float:
    """The rank a decision must reach now, pending signals charged."""
    excess = max(0.0, licence.error_rate - (1.0 - target))
    return max(0.0, licence.threshold + THRESHOLD_STEP * licence.pending * excess)


def needed(revocations: int) -> float:
    """The average wealth that grants a licence."""
    return 2.0 ** (1 + revocations) / DELTA


class Gate:
    """The licence while events are folded into it; `closed` gives the value back."""

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
        """How many series have been seen."""
        return len(self._series)

    def decided(self, pending: Pending) -> Pending:
        """Take note of a decision: its series, a signal now out; say whether it is bet on."""
        if pending.series not in self._series:
            self._join(pending.series)
        self._pending += pending.emitted
        return msgspec.structs.replace(pending, epoch=-1 if self._held else self._revocations)

    def settled(self, pending: Pending, *, right: bool) -> None:
        """Take the verdict of a decision that was noted before."""
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
        """Forget a decision that was noted before: whether it was right will never be known."""
        self._pending -= pending.emitted

    def closed(self) -> Licence:
        """The licence after all that was told."""
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
        """Give a new series the average wealth, and no more fresh starts than anyone has left."""
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
        proven = self.evidence()
        need = needed(self._revocations)
        if float(proven.mean()) >= need:
            widest = max(probe for probe in range(len(PROBES)) if proven[probe] >= need)
            self._held, self._error_rate, self._threshold = True, 1.0, _CUTS[widest]

    def evidence(self) -> Floats:
        """The average wealth of each probe, shape (probes,)."""
        return np.asarray(self._wealth.mean(axis=(0, 1, 3)))

    def _track(self, *, right: bool) -> None:
        moved = self._threshold + THRESHOLD_STEP * (float(not right) - (1.0 - self._target))
        self._threshold = min(max(moved, THRESHOLD_MIN), 1.0)
        if self._threshold >= 1.0:
            self._held, self._threshold = False, max(_CUTS)
            self._revocations += 1
            self._wealth[:] = 0.5
            self._bets[:] = 0
