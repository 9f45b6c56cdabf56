"""Answers are late, slowly."""

from __future__ import annotations

from dashboards.burning import SLOW, latency

ALERT = latency("LatencyBurnSlow", SLOW, late=5)
