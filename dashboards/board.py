"""A Grafana dashboard as a value: rows of panels, variables and links; it is built to JSON.

Each file in `dashboards/boards` defines one dashboard as ``BOARD``.  To add a dashboard, add
a file.
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
from dashboards.query_scope import NAMESPACE
from dashboards.uncatalogued_series import JOB, UP
from midstreamer.telemetry import metrics

TAG = "midstreamer"
"""Tag of all our dashboards; each has a menu with links to all dashboards that have this tag."""
REFRESH = "30s"
"""How often Grafana repeats the queries of an open dashboard."""


@dataclass(frozen=True)
class Variable:
    """A variable of a dashboard: the reader chooses among the values of one label of a series."""

    name: str
    """The name of the variable, and of the label whose values the reader can choose."""
    says: str
    """Description for the reader of the dashboard."""
    series: str
    """PromQL selector of the series whose label values are the choices."""
    one: bool = False
    """Whether the reader chooses exactly one value; otherwise the reader may choose several or all.
    """

    def query(self) -> str:
        """Return the query with which Grafana finds the choices."""
        return f"label_values({self.series}, {self.name})"


NAMESPACES = Variable(
    "namespace",
    "The namespace of the fleet; for a fleet on one machine it is local.",
    promql.series(UP, job=JOB),
    one=True,
)
UNIVERSES = Variable(
    "universe",
    "The universes whose series are shown.",
    promql.series(metrics.DECISIONS, job=JOB, namespace=NAMESPACE),
)
POOLS = Variable(
    "pool",
    "The agent pools that are shown.",
    promql.series(metrics.POOL_AGENTS, job=JOB, namespace=NAMESPACE),
)


def pods(component: str | promql.Match) -> Variable:
    """Return the variable `pod`, whose choices are the processes of a component."""
    chosen = promql.series(UP, job=JOB, namespace=NAMESPACE, component=component)
    return Variable("pod", "The processes that are shown.", chosen)


@dataclass(frozen=True)
class Row:
    """A row of panels that answer one question together."""

    question: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    name: str
    """The name of the file that defines the dashboard; with ``midstreamer-`` in front, its uid."""
    title: str
    says: str
    """Description for the reader of the dashboard."""
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default=())
    """Variables of the dashboard, in addition to the data source and the namespace."""
    shows: str = "now-1h"
    """Start of the time range that Grafana shows when the dashboard is opened."""

    @property
    def uid(self) -> str:
        """The identifier (uid) in Grafana, which is part of links to the dashboard."""
        return f"midstreamer-{self.name}"

    def text(self) -> str:
        """Return the JSON text of the dashboard, as Grafana imports it."""
        content = json.loads(json.dumps(self._built(), cls=JSONEncoder))
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def read(self) -> dict[str, Any]:
        """Return the JSON of the dashboard as a dictionary."""
        found: dict[str, Any] = json.loads(self.text())
        return found

    def _built(self) -> models.Dashboard:
        builder = dashboard.Dashboard(f"Midstreamer / {self.title}").uid(self.uid)
        builder.description(self.says).tags([TAG]).readonly().refresh(REFRESH)
        builder.time(self.shows, "now").timezone("utc").tooltip(
            models.DashboardCursorSync.CROSSHAIR
        )
        builder.with_variable(_datasource()).link(_others())
        for variable in (NAMESPACES, *self.variables):
            builder.with_variable(_asked(variable))
        number = 0
        for each in self.rows:
            number += 1
            builder.with_row(panels.row(each.question).id(number))
            for panel in _level(each.panels):
                number += 1
                builder.with_panel(panel.id(number))
        return builder.build()


def _level(several: Sequence[Panel]) -> list[Panel]:
    """Give all panels that stand side by side the height of the tallest one; return all panels."""
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
    builder = dashboard.DatasourceVariable("datasource").label("data source").type("prometheus")
    return builder.description("The Prometheus that scrapes the fleet.")


def _asked(variable: Variable) -> dashboard.QueryVariable:
    builder = dashboard.QueryVariable(variable.name).label(variable.name).query(variable.query())
    builder.datasource(panels.DATASOURCE).description(variable.says)
    builder.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    builder.sort(models.VariableSort.ALPHABETICAL_ASC)
    if variable.one:
        return builder
    builder.multi(True).include_all(True).all_value(".+")
    everything = models.VariableOption(selected=True, text="All", value="$__all")
    return builder.current(everything)


def _others() -> dashboard.DashboardLink:
    builder = dashboard.DashboardLink("Midstreamer dashboards").tags([TAG]).as_dropdown(True)
    builder.type(models.DashboardLinkType.DASHBOARDS).include_vars(True).keep_time(True)
    return builder.icon("dashboard").tooltip(
        "The other dashboards, with the same namespace and time range"
    )
