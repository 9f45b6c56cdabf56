"""Functions that write PromQL over metrics of the catalogue, for panels and for rules.

    rate(metrics.DECISIONS, "5m", component="coordinator", outcome=among("LONG", "SHORT"))

Metrics are passed as objects, so a query cannot use a name that no process publishes.  A label must
be one of the metric, or one that Prometheus adds to every series of a target.  ValueError is raised
for other labels, and for a value that a label never has.  Every function returns PromQL as text.
A function that aggregates, such as `total`, takes this text as its argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

from dashboards import uncatalogued_series as known
from midstreamer.telemetry import label_values, metrics
from midstreamer.telemetry.metric_builders import Described, Family

Metric: TypeAlias = Counter | Gauge | Histogram | Family[Any] | Described
LE = "le"
"""The label of a histogram's bucket, whose value is the upper limit of the bucket."""


class Match(NamedTuple):
    """A condition on a label: a PromQL operator, and the value to compare with."""

    operator: str
    value: str
    words: tuple[str, ...] = ()
    """The label values that the condition lists, to check that the label can have each of them.

    Empty for a condition of `like`, whose regular expression is not checked.
    """


Wanted: TypeAlias = str | Match
"""A condition on a label: a text that the label must equal, or a `Match`."""


def among(*several: str) -> Match:
    """Return a condition: the label equals one of these words."""
    return Match("=~", "|".join(map(re.escape, several)), several)


def none_of(*several: str) -> Match:
    """Return a condition: the label equals none of these words."""
    if len(several) == 1:
        return Match("!=", several[0], several)
    return Match("!~", "|".join(map(re.escape, several)), several)


def like(pattern: str) -> Match:
    """Return a condition: the label matches a regular expression or a dashboard variable."""
    return Match("=~", pattern)


def described(metric: Metric) -> Described:
    """Return the catalogue entry of a metric; raise ValueError if there is none."""
    if isinstance(metric, Described):
        return metric
    name = metrics.name(metric)
    for each in metrics.CATALOGUE:
        if each.name == name:
            return each
    raise ValueError(f"{name} is not in the catalogue: make it with telemetry.families")


def series(metric: Metric, /, *, suffix: str = "", **labels: Wanted) -> str:
    """Return a selector of the series of a metric that have these labels.

    ``suffix`` is ``_bucket``, ``_sum`` or ``_count`` for a histogram, and empty for other metrics.
    """
    what = described(metric)
    if (what.kind == "histogram") != bool(suffix):
        raise ValueError(f"{what.name} is a {what.kind}: {suffix or 'no suffix'} does not fit")
    chosen = ",".join(_matchers(what, labels))
    return f"{what.name}{suffix}{{{chosen}}}" if chosen else f"{what.name}{suffix}"


def rate(metric: Metric, over: str, /, *, suffix: str = "", **labels: Wanted) -> str:
    """Return PromQL for the growth per second of a counter, over a window such as ``5m``.

    For a histogram, ``suffix`` names the counter: ``_bucket``, ``_sum`` or ``_count``.
    """
    return _grown("rate", metric, over, suffix, labels)


def increase(metric: Metric, over: str, /, *, suffix: str = "", **labels: Wanted) -> str:
    """Return PromQL for the growth of a counter in a window ``over``, such as ``1h``.

    For a histogram, ``suffix`` names the counter: ``_bucket``, ``_sum`` or ``_count``.
    """
    return _grown("increase", metric, over, suffix, labels)


def total(expression: str, *by: str) -> str:
    """Return PromQL for the sum over series, per combination of the labels ``by``."""
    return _aggregated("sum", expression, by)


def largest(expression: str, *by: str) -> str:
    """Return PromQL for the largest value of series, per combination of the labels ``by``."""
    return _aggregated("max", expression, by)


def smallest(expression: str, *by: str) -> str:
    """Return PromQL for the smallest value of series, per combination of the labels ``by``."""
    return _aggregated("min", expression, by)


def number_of(expression: str, *by: str) -> str:
    """Return PromQL for the number of series, per combination of the labels ``by``."""
    return _aggregated("count", expression, by)


def quantile(share: float, metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """Return PromQL for a quantile of a histogram in a window; ``share`` 0.99 means 99 %."""
    buckets = rate(metric, over, suffix="_bucket", **labels)
    return f"histogram_quantile({share:g}, {total(buckets, LE, *by)})"


def mean(metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """Return PromQL for the mean observation of a histogram in a window."""
    return ratio(
        total(rate(metric, over, suffix="_sum", **labels), *by),
        total(rate(metric, over, suffix="_count", **labels), *by),
    )


def within(limit: float, metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """Return PromQL for the share of a histogram's observations that were at most ``limit``.

    Raise ValueError if the histogram has no bucket with this limit.
    """
    what = described(metric)
    if limit not in what.buckets:
        raise ValueError(f"{what.name} has no bucket {limit:g}: take one of {what.buckets}")
    return ratio(
        total(rate(metric, over, suffix="_bucket", **labels, le=f"{float(limit)}"), *by),
        total(rate(metric, over, suffix="_count", **labels), *by),
    )


def ratio(part: str, whole: str) -> str:
    """Return PromQL for ``part`` divided by ``whole``; it has no result if ``whole`` has none."""
    return f"{part} / {whole}"


def or_zero(expression: str) -> str:
    """Return PromQL with the result of ``expression``, or with 0 if that result is empty.

    The result is empty before a counter has counted anything, for example. The PromQL contains
    ``or on()``, because a plain ``or`` would add a 0 without labels beside labelled series.
    """
    return f"({expression} or on() vector(0))"


def _grown(how: str, metric: Metric, over: str, suffix: str, labels: dict[str, Wanted]) -> str:
    what = described(metric)
    if what.kind == "gauge":
        raise ValueError(f"{what.name} is a gauge: {how}() is for counters")
    return f"{how}({series(what, suffix=suffix, **labels)}[{over}])"


def _aggregated(how: str, expression: str, by: tuple[str, ...]) -> str:
    return f"{how} by ({', '.join(by)}) ({expression})" if by else f"{how}({expression})"


def _matchers(what: Described, labels: dict[str, Wanted]) -> Iterator[str]:
    for label, wanted in labels.items():
        match = Match("=", wanted, (wanted,)) if isinstance(wanted, str) else wanted
        _check(what, label, match)
        value = match.value.replace("\\", "\\\\").replace('"', '\\"')
        yield f'{label}{match.operator}"{value}"'


def _check(what: Described, label: str, match: Match) -> None:
    if label == LE and what.kind == "histogram":
        return
    says: label_values.Words | label_values.FirstNames | None
    if label in what.labels:
        says = what.labels[label]
    elif label in known.TARGET_LABELS:
        says = known.TARGET_LABELS[label]
    else:
        has = ", ".join([*what.labels, *known.TARGET_LABELS])
        raise ValueError(f"{what.name} has no label {label!r}: it has {has}")
    if says is None or isinstance(says, label_values.FirstNames):
        return
    for word in match.words:
        if word not in says and word != label_values.OTHER and not word.startswith("$"):
            possible = ", ".join(sorted(says))
            raise ValueError(
                f"{label} of {what.name} never has the value {word!r}: it has {possible}"
            )
