"""What a load test must hold, and whether it did: this decides the exit code. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.tally import Tally
from midstreamer.domain.errors import BadInput

_WRITTEN = re.compile(
    r"(?:([a-z]+(?:\.[a-z]+)?)\.)?(p\d{1,2}|max|failures|late)<=(\d+(?:\.\d+)?)(ms|s|%)\Z"
)


@dataclass(frozen=True)
class Threshold:
    """The most that something may be."""

    request: str
    """Of this type; empty: of all."""
    what: str
    """``p50`` … ``p99``, ``max``, ``failures`` (in percent), ``late`` (p99 of the generator)."""
    most: float
    """Seconds, or percent."""

    @property
    def written(self) -> str:
        """As `parse` reads it."""
        before = f"{self.request}." if self.request else ""
        if self.what == "failures":
            return f"{before}failures<={self.most:g}%"
        return f"{before}{self.what}<={self.most * 1e3:g}ms"


def parse(text: str) -> Threshold:
    """Read ``match.p99<=50ms``, ``failures<=0.1%``, ``late<=5ms``; BadInput says what is wrong."""
    found = _WRITTEN.match(text.replace(" ", ""))
    if not found:
        raise BadInput(
            f"threshold {text!r}: write it as match.p99<=50ms, append.max<=1s, failures<=0.1% or"
            " late<=5ms"
        )
    request, what, value, unit = found.groups()
    if (unit == "%") != (what == "failures"):
        raise BadInput(f"threshold {text!r}: failures are in %, times in ms or s")
    most = float(value) / 1e3 if unit == "ms" else float(value)
    return Threshold(request or "", what, most)


def broken(tally: Tally, thresholds: Iterable[Threshold]) -> list[str]:
    """One line for each threshold that was not held; also when nothing was there to judge."""
    return [line for each in thresholds for line in _broken(tally, each)]


def _broken(tally: Tally, threshold: Threshold) -> list[str]:
    if threshold.what == "late":
        value = tally.late.percentile(99)
        return _above(threshold, "the generator", value)
    names = [threshold.request] if threshold.request else sorted(tally.requests)
    lines: list[str] = []
    for name in names or [""]:
        made = tally.requests.get(name)
        if made is None or not made.count:
            lines.append(f"{threshold.written}: no request of type {name or 'any'} has ended")
        elif threshold.what == "failures":
            value = 100 * made.failures.total() / made.count
            lines += _above(threshold, name, value)
        else:
            percent = 100.0 if threshold.what == "max" else float(threshold.what[1:])
            lines += _above(threshold, name, made.latency.percentile(percent))
    return lines


def _above(threshold: Threshold, name: str, value: float) -> list[str]:
    if value <= threshold.most:
        return []
    shown = f"{value:.2f} %" if threshold.what == "failures" else f"{value * 1e3:.1f} ms"
    return [f"{threshold.written}: {name} had {shown}"]
