"""What is compared and foretold on the shipped data sets, each choice with its reason."""

from __future__ import annotations

from midstreamer.domain.specification import Scale, Specification, Transform

SP500 = Specification(
    "sp500",
    window=64,
    horizon=5,
    # Shape says almost nothing of direction here; many neighbours keep the noise down.
    neighbours=100,
    band=3,
    grid=8,
    transform=Transform.LOG,
    scale=Scale.VOLATILITY,
    # Just above the share of rises: a licence would say more than that stocks drift upwards.
    target=0.55,
)
"""Daily closes of stocks, a trading week ahead."""

LOAD = Specification(
    "load",
    window=48,
    horizon=6,
    neighbours=20,
    # Load is locked to the clock, so a wide band only blurs the hour: 0 and 1 are about equal
    # in hits, each wider one is worse.
    band=1,
    # Any grid that divides 24 would keep memories of a few hours of the day only.
    grid=1,
    transform=Transform.IDENTITY,
    scale=Scale.DEVIATION,
    target=0.95,
)
"""Hourly electricity load, six hours ahead."""
