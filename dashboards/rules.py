"""Alerts and recording rules: what they are made of, and the files that they are built to.

    ALERT = Alert(
        name="PostgresDown",
        expression=lambda over: f"{ours(metrics.POSTGRES_UP)} == 0",
        wait="2m",
        ...
    )

A file below `dashboards/alerts` defines one as ``ALERT``; adding one is adding a file, with its
cases for promtool, and a runbook below `docs/runbooks`.  All durations go through a `Pace`, so that
a live test divides them by one factor and changes nothing else.
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
from dashboards import folders, promql
from dashboards.promql import Metric, Wanted
from dashboards.series import JOB

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "charts/midstreamer/rules"
RUNBOOKS = "docs/runbooks"
PREFIX = "Midstreamer"
PAGE, TICKET = "page", "ticket"
"""Somebody is called now; somebody looks at it on a working day."""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Pace:
    """How durations are written: as they are, or divided by a factor."""

    factor: float = 1.0

    def __call__(self, duration: str) -> str:
        """A duration such as ``5m`` in PromQL."""
        if self.factor == 1:
            return duration
        return f"{max(1, round(self.seconds(duration) * 1000))}ms"

    def seconds(self, duration: str) -> float:
        """A duration in seconds, for what is compared with an age."""
        return seconds(duration) / self.factor


def seconds(duration: str) -> float:
    """A duration such as ``5m`` in seconds; ValueError when it is none."""
    found = re.fullmatch(r"(\d+)([smhd])", duration)
    if found is None:
        raise ValueError(f"{duration!r} is no duration: write a number and one of s, m, h, d")
    return int(found[1]) * SECONDS[found[2]]


@dataclass(frozen=True)
class Holds:
    """A gauge that stays at a value."""

    value: float


@dataclass(frozen=True)
class Grows:
    """A counter that grows by so much each minute, from 0."""

    each_minute: float


@dataclass(frozen=True)
class Written:
    """Values as promtool writes them, one each minute."""

    values: str


Values = Holds | Grows | Written


@dataclass(frozen=True)
class Case:
    """One test: these series come, and at this time these alerts fire, or none."""

    series: Mapping[str, Values]
    at: str
    labels: tuple[Mapping[str, str], ...] = ()
    """Of each alert that fires, without its severity."""
    says: tuple[tuple[str, str], ...] = ()
    """Summary and description of each, as they are read."""
    what: str = ""


@dataclass(frozen=True)
class Alert:
    """Something that somebody must act on."""

    name: str
    expression: Callable[[Pace], str]
    wait: str
    """How long it must be so before anybody hears of it."""
    severity: str
    summary: str
    description: str
    """With the value and the labels; in Prometheus's templates."""
    fault: str
    """What makes it, in words; a live test makes it so."""
    board: str
    """The board to look at, as its file is named."""
    cases: tuple[Case, ...]
    absence: bool = False
    """Whether missing series are what it tells of."""

    @property
    def runbook(self) -> str:
        """Where its runbook lies in the repository."""
        return f"{RUNBOOKS}/{self.name}.md"

    def rule(self, pace: Pace) -> dict[str, Any]:
        """As Prometheus reads it."""
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
    """A series that Prometheus keeps of others."""

    name: str
    expression: Callable[[Pace], str]
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self, pace: Pace) -> dict[str, Any]:
        """As Prometheus reads it."""
        made: dict[str, Any] = {"record": self.name, "expr": self.expression(pace)}
        return made | ({"labels": dict(self.labels)} if self.labels else {})


def ours(metric: Metric, /, *, suffix: str = "", **labels: Wanted) -> str:
    """The series of a metric, of the product's processes alone."""
    return promql.series(metric, suffix=suffix, job=JOB, **labels)


def rate(metric: Metric, over: str, /, *by: str, suffix: str = "", **labels: Wanted) -> str:
    """How fast a counter grows each second, summed up but for these labels."""
    return promql.total(promql.rate(metric, over, suffix=suffix, job=JOB, **labels), *by)


def increase(metric: Metric, over: str, /, *by: str, suffix: str = "", **labels: Wanted) -> str:
    """How much a counter grew within a window, summed up but for these labels."""
    return promql.total(promql.increase(metric, over, suffix=suffix, job=JOB, **labels), *by)


@cache
def alerts() -> tuple[Alert, ...]:
    """The alerts of the files below `dashboards/alerts`, by name."""
    return folders.parts(_alerts, "ALERT")


def render(factor: float = 1.0) -> dict[str, str]:
    """The files of rules by name, all durations divided by ``factor``."""
    # Imported late: recordings are made of what this module defines.
    from dashboards.recordings import RECORDINGS

    pace = Pace(factor)
    return {
        "recordings.yaml": _file(
            "midstreamer.recordings", [each.rule(pace) for each in RECORDINGS]
        ),
        "alerts.yaml": _file("midstreamer.alerts", [each.rule(pace) for each in alerts()]),
    }


def _file(group: str, rules: list[dict[str, Any]]) -> str:
    made = {"groups": [{"name": group, "rules": rules}]}
    return str(yaml.safe_dump(made, sort_keys=False, width=100, allow_unicode=True))


def files() -> dict[Path, str]:
    """Each file that there should be, with its text."""
    return {FOLDER / name: text for name, text in render().items()}


def written(folder: Path, factor: float = 1.0) -> list[Path]:
    """Write the files into a folder, for a Prometheus that keeps them; where they are."""
    kept = {folder / name: text for name, text in render(factor).items()}
    for path, text in kept.items():
        path.write_text(text, encoding="utf-8")
    return list(kept)
