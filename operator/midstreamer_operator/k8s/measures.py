"""How far pods are with the history, from their metrics: shards held, how far behind; pure.

A pod that keeps up has the position of the change feed that sync has.  The lag is the distance to
the pod that is furthest, in changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from midstreamer.telemetry import metrics


@dataclass(frozen=True)
class Measured:
    """What one pod says of itself; None where it says nothing."""

    pod: str
    position: int | None
    shards: int | None
    is_complete: bool


def read(pod: str, component: str, text: str) -> Measured:
    """The metrics of a pod, in the format of Prometheus; ValueError when they are not."""
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
    """A line for each pod that follows the feed."""
    following = [each for each in measured if each.position is not None]
    furthest = max((each.position or 0 for each in following), default=0)
    width = max((len(each.pod) for each in following), default=0)
    for each in sorted(following, key=lambda one: one.pod):
        behind = furthest - (each.position or 0)
        lag = f"{_count(behind, 'change')} behind" if behind else "up to date"
        held = "" if each.shards is None else f", holds {_count(each.shards, 'shard')}"
        lacks = "" if each.is_complete else ", something is missing"
        yield f"  {each.pod:<{width}}  {lag}{held}{lacks}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
