"""What the metrics of this process say, for tests that compare before and after."""

from __future__ import annotations

from typing import Any

from midstreamer.telemetry import metrics


def shown(metric: Any, suffix: str = "", **labels: str) -> float:
    """The value under a metric's name (with ``_count`` or so behind it); 0 when it has none."""
    found = metrics.REGISTRY.get_sample_value(metrics.name(metric) + suffix, labels)
    return 0.0 if found is None else found
