"""Alert: failing requests spend the error budget quickly."""

from __future__ import annotations

from dashboards.burn_rate_alerts import FAST, availability

ALERT = availability("AvailabilityBurn", FAST, failing=4)
