"""Reads metrics of this process, for tests that compare values before and after."""

from __future__ import annotations

from typing import Any

from midstreamer.telemetry import metrics


def shown(metric: Any, suffix: str = "", **labels: str) -> float:
    """Return the value of a metric, or 0; ``suffix``, such as ``_count``, is added to its name."""
    found = metrics.REGISTRY.get_sample_value(metrics.name(metric) + suffix, labels)
    return 0.0 if found is None else found
