"""Thresholds of a load test: their syntax, and whether results exceed them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.result_counts import Tally
from midstreamer.domain.errors import BadInput

_WRITTEN = re.compile(
    r"(?:([a-z]+(?:\.[a-z]+)?)\.)?(p\d{1,2}|max|failures|late)<=(\d+(?:\.\d+)?)(ms|s|%)\Z"
)


@dataclass(frozen=True)
class Threshold:
    """A limit for one measurement; a load test fails if the measurement exceeds it."""

    request: str
    """The type of request; empty means that every type must meet the limit."""
    what: str
    """What is measured: a percentile of the latency such as ``p99``, its ``max``, or another value.

    The other values are ``failures``, the share of requests that failed, and ``late``, the p99 of
    the delays with which the generator started requests.
    """
    most: float
    """The limit: seconds, or percent for ``failures``."""

    @property
    def written(self) -> str:
        """The text of the threshold, as `parse` reads it."""
        before = f"{self.request}." if self.request else ""
        if self.what == "failures":
            return f"{before}failures<={self.most:g}%"
        return f"{before}{self.what}<={self.most * 1e3:g}ms"


def parse(text: str) -> Threshold:
    """Return the threshold in a text such as ``match.p99<=50ms`` or ``failures<=0.1%``.

    Raise BadInput if the text is invalid.
    """
    found = _WRITTEN.match(text.replace(" ", ""))
    if not found:
        raise BadInput(
            f"threshold {text!r}: write it as match.p99<=50ms, append.max<=1s, failures<=0.1% or"
            " late<=5ms"
        )
    request, what, value, unit = found.groups()
    if (unit == "%") != (what == "failures"):
        raise BadInput(f"threshold {text!r}: give failures in %, and times in ms or s")
    most = float(value) / 1e3 if unit == "ms" else float(value)
    return Threshold(request or "", what, most)


def broken(tally: Tally, thresholds: Iterable[Threshold]) -> list[str]:
    """Return a line for each threshold that is exceeded.

    There is also a line for a threshold if no request of its type has ended.
    """
    return [line for each in thresholds for line in _broken(tally, each)]


def _broken(tally: Tally, threshold: Threshold) -> list[str]:
    if threshold.what == "late":
        value = tally.late.percentile(99)
        return _above(threshold, "the generator", value)
    names = [threshold.request] if threshold.request else sorted(tally.requests)
    lines: list[str] = []
    for name in names or [""]:
        requests = tally.requests.get(name)
        if requests is None or not requests.count:
            lines.append(f"{threshold.written}: no request of type {name or 'any'} has ended")
        elif threshold.what == "failures":
            value = 100 * requests.failures.total() / requests.count
            lines += _above(threshold, name, value)
        else:
            percent = 100.0 if threshold.what == "max" else float(threshold.what[1:])
            lines += _above(threshold, name, requests.latency.percentile(percent))
    return lines


def _above(threshold: Threshold, name: str, value: float) -> list[str]:
    if value <= threshold.most:
        return []
    shown = f"{value:.2f} %" if threshold.what == "failures" else f"{value * 1e3:.1f} ms"
    return [f"{threshold.written}: {name} had {shown}"]
