"""Alerts on what is left of the life of a certificate."""

from __future__ import annotations

from dashboards.rules import Pace, ours
from midstreamer.telemetry import metrics


def little_left(share_max: float, left_max: str, pace: Pace) -> str:
    """The share that is left of a certificate's life, where it is below ``share_max``.

    And less than ``left_max`` in time, such as ``7d``: of a life of years a tenth is no hurry.
    """
    ends, begins = ours(metrics.CERTIFICATE_EXPIRY_S), ours(metrics.CERTIFICATE_BEGIN_S)
    left = f"({ends} > 0) - time()"
    return f"({left}) / ({ends} - {begins}) < {share_max} and {left} < {pace.seconds(left_max):g}"
