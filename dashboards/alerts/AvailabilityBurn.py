"""Alert: failing requests spend the error budget quickly."""

from __future__ import annotations

from dashboards.burning import FAST, availability

ALERT = availability("AvailabilityBurn", FAST, failing=4)
