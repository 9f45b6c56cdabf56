"""Alert: late answers spend the error budget quickly."""

from __future__ import annotations

from dashboards.burn_rate_alerts import FAST, latency

ALERT = latency("LatencyBurn", FAST, late=25)
