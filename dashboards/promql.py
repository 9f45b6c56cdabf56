"""PromQL from metrics of the catalogue, for panels and for rules.

    rate(metrics.DECISIONS, "5m", component="coordinator", outcome=among("LONG", "SHORT"))

Metrics are given as objects, so a query cannot ask for a name that nobody publishes; a label that
the metric and its targets lack, and a word that its label never says, are refused with ValueError.
Every function gives text, which others take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from prometheus_client import Counter, Gauge, Histogram

from dashboards import series as known
from midstreamer.telemetry import metrics, words
from midstreamer.telemetry.families import Described, Family

Metric: TypeAlias = Counter | Gauge | Histogram | Family[Any] | Described
LE = "le"


class Match(NamedTuple):
    """How a label is compared: an operator of PromQL and what it is compared with."""

    operator: str
    value: str
    words: tuple[str, ...] = ()
    """The words that it speaks of, which the label must be able to say; none if it is free."""


Wanted: TypeAlias = str | Match


def among(*several: str) -> Match:
    """One of these words."""
    return Match("=~", "|".join(map(re.escape, several)), several)


def none_of(*several: str) -> Match:
    """None of these words."""
    if len(several) == 1:
        return Match("!=", several[0], several)
    return Match("!~", "|".join(map(re.escape, several)), several)


def like(pattern: str) -> Match:
    """What matches a regular expression, or a variable of a board."""
    return Match("=~", pattern)


def described(metric: Metric) -> Described:
    """What the catalogue says of a metric; ValueError when it is not in the catalogue."""
    if isinstance(metric, Described):
        return metric
    name = metrics.name(metric)
    for each in metrics.CATALOGUE:
        if each.name == name:
            return each
    raise ValueError(f"{name} is not in the catalogue: make it with telemetry.families")


def series(metric: Metric, /, *, suffix: str = "", **labels: Wanted) -> str:
    """A metric's series, those with these labels; ``suffix`` is ``_bucket`` and such."""
    what = described(metric)
    if (what.kind == "histogram") != bool(suffix):
        raise ValueError(f"{what.name} is a {what.kind}: {suffix or 'no suffix'} does not fit")
    chosen = ",".join(_matchers(what, labels))
    return f"{what.name}{suffix}{{{chosen}}}" if chosen else f"{what.name}{suffix}"


def rate(metric: Metric, over: str, /, *, suffix: str = "", **labels: Wanted) -> str:
    """How fast a counter, or a part of a histogram, grows each second.

    ``over`` is the window, such as ``5m``.
    """
    return _grown("rate", metric, over, suffix, labels)


def increase(metric: Metric, over: str, /, *, suffix: str = "", **labels: Wanted) -> str:
    """How much a counter, or a part of a histogram, grew within a window."""
    return _grown("increase", metric, over, suffix, labels)


def total(expression: str, *by: str) -> str:
    """The sum, one for each combination of these labels."""
    return _aggregated("sum", expression, by)


def largest(expression: str, *by: str) -> str:
    """The largest, one for each combination of these labels."""
    return _aggregated("max", expression, by)


def smallest(expression: str, *by: str) -> str:
    """The smallest, one for each combination of these labels."""
    return _aggregated("min", expression, by)


def number_of(expression: str, *by: str) -> str:
    """How many there are, for each combination of these labels."""
    return _aggregated("count", expression, by)


def quantile(share: float, metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """Below what value this share of a histogram's observations lay within a window."""
    buckets = rate(metric, over, suffix="_bucket", **labels)
    return f"histogram_quantile({share:g}, {total(buckets, LE, *by)})"


def mean(metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """The mean of a histogram's observations within a window."""
    return ratio(
        total(rate(metric, over, suffix="_sum", **labels), *by),
        total(rate(metric, over, suffix="_count", **labels), *by),
    )


def within(limit: float, metric: Metric, over: str, /, *by: str, **labels: Wanted) -> str:
    """The share of a histogram's observations that were at most ``limit``, one of its buckets."""
    what = described(metric)
    if limit not in what.buckets:
        raise ValueError(f"{what.name} has no bucket {limit:g}: take one of {what.buckets}")
    return ratio(
        total(rate(metric, over, suffix="_bucket", **labels, le=f"{float(limit)}"), *by),
        total(rate(metric, over, suffix="_count", **labels), *by),
    )


def ratio(part: str, whole: str) -> str:
    """One divided by the other; nothing where the other is nothing."""
    return f"{part} / {whole}"


def or_zero(expression: str) -> str:
    """The same, and 0 when there is no series, as where nothing was counted yet."""
    return f"({expression} or vector(0))"


def _grown(how: str, metric: Metric, over: str, suffix: str, labels: dict[str, Wanted]) -> str:
    what = described(metric)
    if what.kind == "gauge":
        raise ValueError(f"{what.name} is a gauge: {how}() is for what only grows")
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
    says: words.Words | words.FirstNames | None
    if label in what.labels:
        says = what.labels[label]
    elif label in known.TARGET_LABELS:
        says = known.TARGET_LABELS[label]
    else:
        has = ", ".join([*what.labels, *known.TARGET_LABELS])
        raise ValueError(f"{what.name} has no label {label!r}: it has {has}")
    if says is None or isinstance(says, words.FirstNames):
        return
    for word in match.words:
        if word not in says and word != words.OTHER and not word.startswith("$"):
            told = ", ".join(sorted(says))
            raise ValueError(f"{label} of {what.name} never says {word!r}: it says {told}")
