"""Alert: late answers spend the error budget slowly but steadily."""

from __future__ import annotations

from dashboards.burn_rate_alerts import SLOW, latency

ALERT = latency("LatencyBurnSlow", SLOW, late=5)
