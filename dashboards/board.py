"""A board: its rows of panels, its variables, and its links to the other boards; built as JSON.

A file below `dashboards/boards` defines one as ``BOARD``.  Adding one is adding a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards import panels, promql
from dashboards.panels import Panel
from dashboards.scope import NAMESPACE
from dashboards.series import JOB, UP
from midstreamer.telemetry import metrics

TAG = "midstreamer"
REFRESH = "30s"


@dataclass(frozen=True)
class Variable:
    """A choice at the head of a board: the values of a label, among those of some series."""

    name: str
    says: str
    series: str
    one: bool = False
    """Whether exactly one is chosen; else several, or all."""

    def query(self) -> str:
        """As Grafana asks for them."""
        return f"label_values({self.series}, {self.name})"


NAMESPACES = Variable(
    "namespace",
    "The namespace of the fleet; a fleet on one machine is called local.",
    promql.series(UP, job=JOB),
    one=True,
)
UNIVERSES = Variable(
    "universe",
    "The universes of series.",
    promql.series(metrics.DECISIONS, job=JOB, namespace=NAMESPACE),
)
POOLS = Variable(
    "pool",
    "The pools of agents.",
    promql.series(metrics.POOL_AGENTS, job=JOB, namespace=NAMESPACE),
)


def pods(component: str | promql.Match) -> Variable:
    """The processes of one component."""
    chosen = promql.series(UP, job=JOB, namespace=NAMESPACE, component=component)
    return Variable("pod", "The processes that are shown.", chosen)


@dataclass(frozen=True)
class Row:
    """Panels that answer a question together."""

    question: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """One board."""

    name: str
    """Of its file, and behind ``midstreamer-`` its identity in Grafana."""
    title: str
    says: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default=())
    """Besides the data source and the namespace."""
    shows: str = "now-1h"
    """From when on it shows, until somebody chooses."""

    @property
    def uid(self) -> str:
        """Its identity in Grafana, which links name."""
        return f"midstreamer-{self.name}"

    def text(self) -> str:
        """The board as Grafana reads it: JSON."""
        made = json.loads(json.dumps(self._built(), cls=JSONEncoder))
        return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def read(self) -> dict[str, Any]:
        """The same as an object."""
        found: dict[str, Any] = json.loads(self.text())
        return found

    def _built(self) -> models.Dashboard:
        made = dashboard.Dashboard(f"Midstreamer / {self.title}").uid(self.uid)
        made.description(self.says).tags([TAG]).readonly().refresh(REFRESH)
        made.time(self.shows, "now").timezone("utc").tooltip(models.DashboardCursorSync.CROSSHAIR)
        made.with_variable(_datasource()).link(_others())
        for variable in (NAMESPACES, *self.variables):
            made.with_variable(_asked(variable))
        number = 0
        for each in self.rows:
            number += 1
            made.with_row(panels.row(each.question).id(number))
            for panel in _level(each.panels):
                number += 1
                made.with_panel(panel.id(number))
        return made.build()


def _level(several: Sequence[Panel]) -> list[Panel]:
    """The panels, those beside each other as high as the highest of them."""
    beside: list[Panel] = []
    width = 0
    for panel in several:
        if width >= panels.WIDTH:
            beside, width = [], 0
        beside.append(panel)
        width += panel.build().grid_pos.w
        height = max(each.build().grid_pos.h for each in beside)
        for each in beside:
            each.height(height)
    return list(several)


def _datasource() -> dashboard.DatasourceVariable:
    made = dashboard.DatasourceVariable("datasource").label("data source").type("prometheus")
    return made.description("The Prometheus that scrapes the fleet.")


def _asked(variable: Variable) -> dashboard.QueryVariable:
    made = dashboard.QueryVariable(variable.name).label(variable.name).query(variable.query())
    made.datasource(panels.DATASOURCE).description(variable.says)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(models.VariableSort.ALPHABETICAL_ASC)
    if variable.one:
        return made
    made.multi(True).include_all(True).all_value(".+")
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    return made.current(everything)


def _others() -> dashboard.DashboardLink:
    made = dashboard.DashboardLink("Boards of Midstreamer").tags([TAG]).as_dropdown(True)
    made.type(models.DashboardLinkType.DASHBOARDS).include_vars(True).keep_time(True)
    return made.icon("dashboard").tooltip("The other boards, of the same namespace and time")
