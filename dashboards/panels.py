"""Builders for panels of dashboards, on Grafana's own types: graph, number, heatmap and table.

Every builder requires a unit and a description (`Says`): what the panel shows, what is bad, and
what to do then.  A panel without an explanation can therefore not be built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH: Final = 24
"""Columns of Grafana's grid."""
GRAPH_HEIGHT, NUMBER_HEIGHT = 8, 4
"""Heights of a graph and of a panel with a number, in rows of Grafana's grid."""
GREEN, AMBER, RED = "green", "orange", "red"

# Units of panels, by the names that Grafana has for them.
SECONDS, MILLISECONDS, BYTES, SHARE = "s", "ms", "bytes", "percentunit"
PER_S, BYTES_PER_S, COUNT, PLAIN = "cps", "Bps", "short", "none"
UNITS = frozenset({SECONDS, MILLISECONDS, BYTES, SHARE, PER_S, BYTES_PER_S, COUNT, PLAIN})


class Says(NamedTuple):
    """The description of a panel: what it shows, what is bad, and what to do then."""

    shows: str
    bad: str
    do: str

    def text(self) -> str:
        """Return the description as Markdown; Grafana shows it at the corner of the panel."""
        return f"{self.shows}\n\n**Bad:** {self.bad}\n\n**Then:** {self.do}"


class Line(NamedTuple):
    """One query of a panel and its legend; ``{{pod}}`` in a legend stands for the label's value."""

    query: str
    legend: str
    exemplars: bool = False
    """Whether Grafana shows exemplars, dots that link to traces; only for latencies."""


class Limits(NamedTuple):
    """The values from which a panel turns amber (``warn``) and red (``bad``)."""

    warn: float | None = None
    bad: float | None = None
    upward: bool = True
    """Whether large values are bad; otherwise small values are bad."""

    def steps(self) -> list[models.Threshold]:
        """Return Grafana's thresholds with their colours, from the smallest value up."""
        if self.upward:
            rising = [(None, GREEN), (self.warn, AMBER), (self.bad, RED)]
        else:
            low = RED if self.bad is not None else AMBER
            middle = AMBER if self.warn is not None and self.bad is not None else GREEN
            rising = [(None, low), (self.bad, middle), (self.warn, GREEN)]
        first, *others = rising
        kept = [first, *((value, colour) for value, colour in others if value is not None)]
        return [models.Threshold(value=value, color=colour) for value, colour in kept]


NO_LIMITS = Limits()


def above(bad: float, *, warn: float | None = None) -> Limits:
    """Return limits: a panel is amber from ``warn`` to ``bad``, and red from ``bad`` upward."""
    return Limits(warn, bad)


def below(bad: float, *, good: float | None = None) -> Limits:
    """Return limits: a panel is red below ``bad``, and amber from ``bad`` to ``good``."""
    return Limits(good, bad, upward=False)


Panel = Any
"""A panel builder of the Grafana SDK. `Any`, because no base class has all methods that we call."""


def graph(
    title: str,
    unit: str,
    says: Says,
    *lines: Line,
    limits: Limits = NO_LIMITS,
    width: int = 12,
    stacked: bool = False,
    most: float | None = None,
    leads: Sequence[str] = (),
) -> Panel:
    """Return a panel with lines over time.

    ``stacked`` is for lines that add up to a total.  ``most`` is the end of the y axis.  ``leads``
    are names of dashboards with more detail; the panel links to them.
    """
    builder = timeseries.Panel().legend(_legend(len(lines))).tooltip(_tooltip()).min(0)
    builder.fill_opacity(60 if stacked else 8).line_width(1).span_nulls(True)
    builder.show_points(common.VisibilityMode.NEVER)
    if stacked:
        mode = common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
        builder.stacking(mode)
    if most is not None:
        builder.max(most)
    if limits != NO_LIMITS:
        dashed = common.GraphThresholdsStyleMode.DASHED
        builder.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(dashed))
    if leads:
        _link(builder, leads)
    return _finished(builder, title, unit, says, lines, limits, width, GRAPH_HEIGHT)


def number(
    title: str,
    unit: str,
    says: Says,
    *lines: Line,
    limits: Limits = NO_LIMITS,
    width: int = 4,
    decimals: int | None = None,
    leads: Sequence[str] = (),
) -> Panel:
    """Return a panel with the last value of each series in large digits, over a small graph."""
    last = common_builders.ReduceDataOptions().calcs(["lastNotNull"])
    builder = stat.Panel().reduce_options(last).graph_mode(common.BigValueGraphMode.AREA)
    builder.color_mode(common.BigValueColorMode.VALUE)
    if decimals is not None:
        builder.decimals(decimals)
    if leads:
        _link(builder, leads)
    return _finished(builder, title, unit, says, lines, limits, width, NUMBER_HEIGHT)


def spread(title: str, unit: str, says: Says, query: str, *, width: int = 12) -> Panel:
    """Return a heatmap of a histogram over time; cells with more observations are darker."""
    builder = heatmap.Panel().calculate(False)
    builder.y_axis(heatmap.YAxisConfig().unit(unit))
    colours = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME)
    builder.color(colours.scheme("Blues").steps(64)).cell_gap(0).show_legend()
    line = Line(query, "{{le}}", exemplars=True)
    builder = _finished(builder, title, unit, says, (line,), NO_LIMITS, width, GRAPH_HEIGHT)
    builder.build().targets[0].format_val = prometheus_models.PromQueryFormat.HEATMAP
    return builder


class Column(NamedTuple):
    """One column of a table: its title, its unit, and a query that gives the value of each row."""

    title: str
    unit: str
    query: str
    limits: Limits = NO_LIMITS


def listing(
    title: str, says: Says, by: str, *columns: Column, width: int = WIDTH, height: int = 9
) -> Panel:
    """Return a table of current values: a row per value of the label ``by``, a column per query."""
    builder = table.Panel().show_header(True)
    for number, column in enumerate(columns):
        ref = chr(ord("A") + number)
        builder.with_target(_query(Line(column.query, ""), ref, now=True))
        properties = [models.DynamicConfigValue("unit", column.unit)]
        if column.limits != NO_LIMITS:
            steps = {"mode": "absolute", "steps": column.limits.steps()}
            properties.append(models.DynamicConfigValue("thresholds", steps))
            shown = {"type": "color-text"}
            properties.append(models.DynamicConfigValue("custom.cellOptions", shown))
        builder.override_by_name(column.title, properties)
    names = {f"Value #{chr(ord('A') + at)}": each.title for at, each in enumerate(columns)}
    if len(columns) == 1:
        names = {"Value": columns[0].title}
    joined = models.DataTransformerConfig(
        id_val="joinByField", options={"byField": by, "mode": "outer"}
    )
    hidden = {f"Time {at}": True for at in range(1, len(columns) + 1)} | {"Time": True}
    order = {by: 0} | {name: at for at, name in enumerate(names, 1)}
    arranged = models.DataTransformerConfig(
        id_val="organize",
        options={"excludeByName": hidden, "indexByName": order, "renameByName": names},
    )
    if len(columns) > 1:
        builder.with_transformation(joined)
    builder.with_transformation(arranged)
    return _finished(builder, title, COUNT, says, (), NO_LIMITS, width, height)


def row(question: str) -> dashboard.Row:
    """Return a row, whose title is the question that its panels answer."""
    return dashboard.Row(question)


def _finished(
    builder: Panel,
    title: str,
    unit: str,
    says: Says,
    lines: Sequence[Line],
    limits: Limits,
    width: int,
    height: int,
) -> Panel:
    builder.title(title).description(says.text()).unit(unit).datasource(DATASOURCE)
    steps = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    builder.thresholds(steps.steps(limits.steps())).span(width).height(height)
    for number, line in enumerate(lines):
        builder.with_target(_query(line, chr(ord("A") + number), now=False))
    return builder


def _link(builder: Panel, boards: Sequence[str]) -> None:
    """Add links to dashboards; a link keeps the reader's data source, namespace and time range."""
    kept = "${__url_time_range}&${datasource:queryparam}&${namespace:queryparam}"
    builder.links(
        [
            dashboard.DashboardLink(f"Dashboard {name}").url(f"/d/midstreamer-{name}?{kept}")
            for name in boards
        ]
    )


def _query(line: Line, ref: str, *, now: bool) -> prometheus.Dataquery:
    builder = prometheus.Dataquery().expr(line.query).legend_format(line.legend)
    builder.ref_id(ref).datasource(DATASOURCE)
    if now:
        return builder.instant().format(prometheus_models.PromQueryFormat.TABLE)
    builder.range()
    return builder.exemplar(True) if line.exemplars else builder


def _legend(lines: int) -> common_builders.VizLegendOptions:
    builder = common_builders.VizLegendOptions().show_legend(True)
    builder.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    return builder


def _tooltip() -> common_builders.VizTooltipOptions:
    builder = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return builder.sort(common.SortOrder.DESCENDING)
