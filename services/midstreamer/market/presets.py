"""Specifications for the bundled data sets, with the reason for each choice."""

from __future__ import annotations

from midstreamer.domain.specification import Scale, Specification, Transform

SP500 = Specification(
    "sp500",
    window=64,
    horizon=5,
    # The shape of a window hardly predicts the direction of stocks: many analogs reduce the noise.
    neighbours=100,
    band=3,
    grid=8,
    transform=Transform.LOG,
    scale=Scale.VOLATILITY,
    # Just above the share of rises: forecasting a rise every time must not earn a licence.
    target=0.55,
)
"""Daily closes of stocks, forecast one trading week ahead."""

LOAD = Specification(
    "load",
    window=48,
    horizon=6,
    neighbours=20,
    # Electricity load depends on the hour of the day, and a wide band blurs the hour. Bands 0 and 1
    # give about equal hit rates. Each wider band gives a lower hit rate.
    band=1,
    # A grid of 8 divides the 24 hours of a day, so analogs would begin at only three of the hours.
    grid=1,
    transform=Transform.IDENTITY,
    scale=Scale.DEVIATION,
    target=0.95,
)
"""Hourly electricity load, forecast six hours ahead."""
