"""Shards and lag of pods, computed from their metrics; pure functions.

A pod that keeps up has the same position in the change feed as sync.  The lag of a pod is the
distance to the pod with the highest position, counted in changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midstreamer.telemetry import metrics


@dataclass(frozen=True)
class Measured:
    """What one pod reports in its metrics; a field is None when the metric is missing."""

    pod: str
    position: int | None
    """Position in the change feed; None when the metric is missing."""
    shards: int | None
    """Number of shards held; None for pods that are no agents, or when the metric is missing."""
    is_complete: bool
    """Whether the pod has everything that it needs."""


def read(pod: str, component: str, text: str) -> Measured:
    """Parse the metrics of a pod; raise ValueError when ``text`` is not in Prometheus' format."""
    values = metrics.read(text)
    position = values.get(metrics.name(metrics.FEED_POSITION))
    shards = values.get(metrics.name(metrics.SHARDS_HELD)) if component == "agent" else None
    return Measured(
        pod,
        None if position is None else int(position),
        None if shards is None else int(shards),
        values.get(metrics.name(metrics.COMPLETE)) == 1.0,
    )


def shown(measured: Sequence[Measured]) -> Iterator[str]:
    """Yield one line for each pod that follows the change feed: lag, shards, completeness."""
    following = [each for each in measured if each.position is not None]
    furthest = max((each.position or 0 for each in following), default=0)
    width = max((len(each.pod) for each in following), default=0)
    for each in sorted(following, key=lambda measured_pod: measured_pod.pod):
        behind = furthest - (each.position or 0)
        lag = f"{_count(behind, 'change')} behind" if behind else "up to date"
        held = "" if each.shards is None else f", holds {_count(each.shards, 'shard')}"
        lacks = "" if each.is_complete else ", something is missing"
        yield f"  {each.pod:<{width}}  {lag}{held}{lacks}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
