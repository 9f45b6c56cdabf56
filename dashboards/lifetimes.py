"""The PromQL that the alerts on certificates share: how long a certificate is still valid."""

from __future__ import annotations

from dashboards.rules import Pace, ours
from midstreamer.telemetry import metrics


def little_left(share_max: float, left_max: str, pace: Pace) -> str:
    """Return PromQL for certificates with little time left, in share of validity and in days.

    The value is the share of the validity that is left, which must be below ``share_max``. The time
    that is left must also be below ``left_max``, such as ``7d``: a tenth of a validity of several
    years is not urgent. ``pace`` scales ``left_max``.
    """
    ends, begins = ours(metrics.CERTIFICATE_EXPIRY_S), ours(metrics.CERTIFICATE_BEGIN_S)
    left = f"({ends} > 0) - time()"
    return f"({left}) / ({ends} - {begins}) < {share_max} and {left} < {pace.seconds(left_max):g}"
