"""Alerts and recording rules as values, and the rule files of Prometheus built from them.

    ALERT = Alert(
        name="PostgresDown",
        expression=lambda over: f"{ours(metrics.POSTGRES_UP)} == 0",
        wait="2m",
        ...
    )

Each file in `dashboards/alerts` defines one alert as ``ALERT``, with its test cases for promtool.
To add an alert, add such a file and a runbook in `docs/runbooks`.  All durations go through a
`Pace`, so that a live test can divide them by one factor and change nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from dashboards import alerts as _alerts
from dashboards import built_files, promql
from dashboards.promql import Metric, Wanted
from dashboards.uncatalogued_series import JOB

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/midstreamer/rules"
RUNBOOKS = "docs/runbooks"
PREFIX = "Midstreamer"
"""Start of the name of every alert in Prometheus."""
PAGE, TICKET = "page", "ticket"
"""Severities: page calls a person now; ticket can wait for a working day."""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Pace:
    """Writes durations for PromQL; all of them are divided by ``factor``."""

    factor: float = 1.0

    def __call__(self, duration: str) -> str:
        """Return a duration such as ``5m``, divided by ``factor``, in the notation of PromQL."""
        if self.factor == 1:
            return duration
        return f"{max(1, round(self.seconds(duration) * 1000))}ms"

    def seconds(self, duration: str) -> float:
        """Return the number of seconds in a duration such as ``5m``, divided by ``factor``.

        Expressions in PromQL compare a number of seconds with it.
        """
        return seconds(duration) / self.factor


def seconds(duration: str) -> float:
    """Return a duration such as ``5m`` in seconds; raise ValueError for any other text."""
    found = re.fullmatch(r"(\d+)([smhd])", duration)
    if found is None:
        raise ValueError(
            f"{duration!r} is not a duration: write a whole number and one of s, m, h, d"
        )
    return int(found[1]) * SECONDS[found[2]]


@dataclass(frozen=True)
class Holds:
    """Samples of a series in a test case: a gauge that stays at ``value``."""

    value: float


@dataclass(frozen=True)
class Grows:
    """Samples of a series in a test case: a counter grows by ``each_minute`` a minute from 0."""

    each_minute: float


@dataclass(frozen=True)
class Written:
    """Samples of a series in a test case, written out in promtool's own notation."""

    values: str


Values = Holds | Grows | Written


@dataclass(frozen=True)
class Case:
    """A test case of an alert: input series, a time, and the alerts that must then fire, if any."""

    series: Mapping[str, Values]
    at: str
    """When the alert is evaluated: a duration such as ``5m`` since the first sample."""
    labels: tuple[Mapping[str, str], ...] = ()
    """Labels of each alert that must fire; empty if none must fire.

    The label ``severity`` is left out, because it is the same for all cases of an alert.
    """
    says: tuple[tuple[str, str], ...] = ()
    """Summary and description of each alert that fires, with the labels filled in."""
    what: str = ""
    """What distinguishes the case from the alert's other cases, for the name of the test."""


@dataclass(frozen=True)
class Alert:
    """An alert: its expression, its texts, its test cases, and the fault that makes it fire."""

    name: str
    expression: Callable[[Pace], str]
    """Returns the PromQL of the alert, with durations written by a `Pace`."""
    wait: str
    """How long the expression must be true before the alert fires, such as ``5m``."""
    severity: str
    summary: str
    description: str
    """Text with the value and the labels, as a Prometheus template."""
    fault: str
    """What makes the alert fire, in words; the live test causes this fault."""
    board: str
    """File name, without suffix, of the dashboard that the alert links to."""
    cases: tuple[Case, ...]
    absence: bool = False
    """Whether the alert is about missing series; such an alert fires if there is no series at all.
    """

    @property
    def runbook(self) -> str:
        """The path of the runbook in the repository."""
        return f"{RUNBOOKS}/{self.name}.md"

    def rule(self, pace: Pace) -> dict[str, Any]:
        """Return the rule as an entry of a Prometheus rule file."""
        return {
            "alert": f"{PREFIX}{self.name}",
            "expr": self.expression(pace),
            "for": pace(self.wait),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": self.runbook,
                "dashboard": f"midstreamer-{self.board}",
            },
        }


@dataclass(frozen=True)
class Recording:
    """A recording rule: a series that Prometheus computes from other series."""

    name: str
    expression: Callable[[Pace], str]
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self, pace: Pace) -> dict[str, Any]:
        """Return the rule as an entry of a Prometheus rule file."""
        rule: dict[str, Any] = {"record": self.name, "expr": self.expression(pace)}
        return rule | ({"labels": dict(self.labels)} if self.labels else {})


def ours(metric: Metric, /, *, suffix: str = "", **labels: Wanted) -> str:
    """Return a selector of the series of a metric that processes of Midstreamer publish."""
    return promql.series(metric, suffix=suffix, job=JOB, **labels)


def rate(metric: Metric, over: str, /, *by: str, suffix: str = "", **labels: Wanted) -> str:
    """Return PromQL for the growth per second of a counter, summed per combination of ``by``."""
    return promql.total(promql.rate(metric, over, suffix=suffix, job=JOB, **labels), *by)


def increase(metric: Metric, over: str, /, *by: str, suffix: str = "", **labels: Wanted) -> str:
    """Return PromQL for the growth of a counter in a window, summed per combination of ``by``."""
    return promql.total(promql.increase(metric, over, suffix=suffix, job=JOB, **labels), *by)


@cache
def alerts() -> tuple[Alert, ...]:
    """Return the alerts of `dashboards/alerts`, sorted by name."""
    return built_files.parts(_alerts, "ALERT")


def render(factor: float = 1.0) -> dict[str, str]:
    """Return the text of each rule file by name, with durations divided by ``factor``."""
    # Imported here, because `dashboards.recording_rules` imports this module.
    from dashboards.recording_rules import RECORDINGS

    pace = Pace(factor)
    return {
        "recordings.yaml": _file(
            "midstreamer.recordings", [each.rule(pace) for each in RECORDINGS]
        ),
        "alerts.yaml": _file("midstreamer.alerts", [each.rule(pace) for each in alerts()]),
    }


def _file(group: str, rules: list[dict[str, Any]]) -> str:
    document = {"groups": [{"name": group, "rules": rules}]}
    return str(yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True))


def files() -> dict[Path, str]:
    """Return the path and the text of every rule file in the chart."""
    return {FOLDER / name: text for name, text in render().items()}


def written(folder: Path, factor: float = 1.0) -> list[Path]:
    """Write the rule files into a folder, and return their paths for the start of a Prometheus.

    All durations in the files are divided by ``factor``.
    """
    kept = {folder / name: text for name, text in render(factor).items()}
    for path, text in kept.items():
        path.write_text(text, encoding="utf-8")
    return list(kept)
