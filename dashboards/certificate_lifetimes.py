"""The PromQL that the alerts on certificates share: how long a certificate is still valid."""

from __future__ import annotations

from dashboards.rules import Pace, ours
from midstreamer.telemetry import metrics


def little_left(share_max: float, left_max: str, pace: Pace) -> str:
    """Return PromQL that selects certificates that expire soon.

    The result for each certificate is the share of its validity that is left. A certificate is
    selected if this share is below ``share_max``, and the time left is also below ``left_max``,
    such as ``7d``. The share alone is not enough: a tenth of several years is not urgent.
    ``pace`` divides ``left_max`` in a live test.
    """
    ends, begins = ours(metrics.CERTIFICATE_EXPIRY_S), ours(metrics.CERTIFICATE_BEGIN_S)
    left = f"({ends} > 0) - time()"
    return f"({left}) / ({ends} - {begins}) < {share_max} and {left} < {pace.seconds(left_max):g}"
