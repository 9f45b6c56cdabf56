"""Alert: failing requests spend the error budget slowly but steadily."""

from __future__ import annotations

from dashboards.burn_rate_alerts import SLOW, availability

ALERT = availability("AvailabilityBurnSlow", SLOW, failing=0.5)
