"""Mixture of the arms (the forecasting methods), weighted by their past Brier losses.

The Brier loss on [0, 1] is exp-concave with rate 1/2. So an exponentially weighted mixture that
knows each verdict before its next decision loses at most 2 ln(arms) more than the best arm, for
every sequence (Vovk 1998). Verdicts arrive ``horizon`` points late, so there is one mixture for
each phase (position modulo horizon): within a phase of one series, every verdict is known before
the next decision.

A later version may add arms. A decision keeps the arms that it was made with, so a state may learn
from decisions with fewer or more arms than its own. If a decision lacks an arm, the weight of that
arm stays the same: the arm is charged with what the mixture of the other arms lost, as a sleeping
expert is (Freund et al. 1997). A new arm starts with the average weight.

The ``calibrated`` arm forecasts climatology + slope * (vote - climatology), where the vote is the
forecast of another arm (`reasoning.forecast`). The slope is learned by a ridge regression of
(rise - climatology) on (vote - climatology). The regression forgets old verdicts gradually: about
the last two thousand count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RATE = 0.5
"""Learning rate of the exponential weights."""
SLOPE_DECAY = 0.9995
"""At each verdict, both sums from which `slope` is computed are multiplied by this factor. So old
verdicts count less."""
SLOPE_RIDGE = 0.5
"""Ridge penalty in the regression that gives the slope of the ``calibrated`` arm."""
SLOPE_MAX = 2.0
"""Largest slope of the ``calibrated`` arm; the smallest is 0."""


def weights(losses: Sequence[float]) -> list[float]:
    """Return the weights of the arms (forecasting methods) from their losses; they sum to 1."""
    least = min(losses)
    raw = [math.exp(-RATE * (loss - least)) for loss in losses]
    total = sum(raw)
    return [weight / total for weight in raw]


def mixed(probabilities: Sequence[float], losses: Sequence[float]) -> float:
    """Return the weighted mean of the arms' probabilities of a rise."""
    pairs = zip(weights(losses), probabilities, strict=True)
    return math.fsum(weight * probability for weight, probability in pairs)


def fitted(losses: Sequence[float], count: int) -> list[float]:
    """Return a list of ``count`` losses: the summed loss of each of the first ``count`` arms.

    If ``losses`` has more arms, the losses of the last arms are left out.  If it has fewer, each
    added arm gets the loss that gives it the average weight.
    """
    kept = list(losses[:count])
    return kept + [_of_all(kept)] * (count - len(kept)) if len(kept) < count else kept


def charged(losses: Sequence[float], lost: Sequence[float]) -> list[float]:
    """Return the summed ``losses`` after one more verdict, which adds ``lost``, arm by arm.

    If the verdict judged fewer arms than ``losses`` has, each other arm is charged with what the
    mixture of the judged arms lost.  If it judged more arms, the additional ones are ignored.
    """
    asked = [before + loss for before, loss in zip(losses, lost, strict=False)]
    rest = losses[len(asked) :]
    if not rest or not asked:
        return [*asked, *rest]
    share = _of_all(asked) - _of_all(losses[: len(asked)])
    return [*asked, *(before + share for before in rest)]


def _of_all(losses: Sequence[float]) -> float:
    """Return the loss whose weight is the mean of the weights of these losses.

    The weight of a loss is exp(-`RATE` * loss).
    """
    least = min(losses)
    raw = [math.exp(-RATE * (loss - least)) for loss in losses]
    return least - math.log(math.fsum(raw) / len(raw)) / RATE


def slope(sums: tuple[float, float]) -> float:
    """Return the slope of the ``calibrated`` arm, from 0 to `SLOPE_MAX`.

    With slope 0 the arm forecasts the climatology; with slope 1 its forecast is the vote.
    """
    return min(max(sums[1] / (sums[0] + SLOPE_RIDGE), 0.0), SLOPE_MAX)


def steepened(
    sums: tuple[float, float], *, base: float, voted: float, rise: bool
) -> tuple[float, float]:
    """Return the two sums from which `slope` is computed, after one more verdict.

    The first sum adds v * v for each verdict, and the second adds v * r, where v is
    (vote - climatology) and r is (rise - climatology).  In both sums, older verdicts count less.
    """
    lean, truth = voted - base, float(rise) - base
    return (SLOPE_DECAY * sums[0] + lean * lean, SLOPE_DECAY * sums[1] + lean * truth)
