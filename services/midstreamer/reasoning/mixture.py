"""The arms, weighed by what they lost: exponential weights on known Brier losses.

The Brier loss on [0, 1] is exp-concave with rate 1/2, so a mixture that knows each verdict
before its next decision loses at most 2 ln(arms) more than the best arm, whatever happens
(Vovk 1998).  Verdicts come ``horizon`` points late; therefore one mixture per phase of the
delay: within a phase of one series every verdict is known before the next decision.

Arms may be added in a later version.  A decision keeps the arms that it was made with, so a state
learns from decisions with fewer arms than it knows, and from others with more.  An arm that was
not asked keeps its share of the weight: it is charged what the mixture of the others lost, as a
sleeping expert is (Freund et al. 1997).  An arm that is new begins with the average weight.

The slope of the calibrated arm is the regression of (rise - climatology) on (vote -
climatology), with a little ridge, forgetting over some two thousand verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RATE = 0.5
SLOPE_DECAY = 0.9995
SLOPE_RIDGE = 0.5
SLOPE_MAX = 2.0


def weights(losses: Sequence[float]) -> list[float]:
    """Weights of the arms given their summed losses in this phase; they sum to 1."""
    least = min(losses)
    raw = [math.exp(-RATE * (loss - least)) for loss in losses]
    total = sum(raw)
    return [weight / total for weight in raw]


def mixed(probabilities: Sequence[float], losses: Sequence[float]) -> float:
    """The mixture's P(rise)."""
    pairs = zip(weights(losses), probabilities, strict=True)
    return math.fsum(weight * probability for weight, probability in pairs)


def fitted(losses: Sequence[float], count: int) -> list[float]:
    """The losses of the first ``count`` arms; arms without any get the average weight."""
    kept = list(losses[:count])
    return kept + [_of_all(kept)] * (count - len(kept)) if len(kept) < count else kept


def charged(losses: Sequence[float], lost: Sequence[float]) -> list[float]:
    """Summed losses after one more verdict, which judged the first ``len(lost)`` arms.

    What was lost by arms beyond ``losses`` is left out.
    """
    asked = [before + loss for before, loss in zip(losses, lost, strict=False)]
    rest = losses[len(asked) :]
    if not rest or not asked:
        return [*asked, *rest]
    share = _of_all(asked) - _of_all(losses[: len(asked)])
    return [*asked, *(before + share for before in rest)]


def _of_all(losses: Sequence[float]) -> float:
    """The summed loss whose weight is the average weight of these."""
    least = min(losses)
    raw = [math.exp(-RATE * (loss - least)) for loss in losses]
    return least - math.log(math.fsum(raw) / len(raw)) / RATE


def slope(sums: tuple[float, float]) -> float:
    """The calibrated arm's slope: 0 is climatology, 1 the vote as it is."""
    return min(max(sums[1] / (sums[0] + SLOPE_RIDGE), 0.0), SLOPE_MAX)


def steepened(
    sums: tuple[float, float], *, base: float, voted: float, rise: bool
) -> tuple[float, float]:
    """The slope's sums after one more verdict."""
    lean, truth = voted - base, float(rise) - base
    return (SLOPE_DECAY * sums[0] + lean * lean, SLOPE_DECAY * sums[1] + lean * truth)
