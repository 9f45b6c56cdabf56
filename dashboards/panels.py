"""Panels of boards, on Grafana's own types: a graph, a number, a heatmap, a table.

Each is asked for with its unit and with what it says to a reader: what it shows, what is bad, and
what to do then.  So none can be made that leaves its reader alone.
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
GREEN, AMBER, RED = "green", "orange", "red"

# Units, as Grafana calls them.
SECONDS, MILLISECONDS, BYTES, SHARE = "s", "ms", "bytes", "percentunit"
PER_S, BYTES_PER_S, COUNT, PLAIN = "cps", "Bps", "short", "none"
UNITS = frozenset({SECONDS, MILLISECONDS, BYTES, SHARE, PER_S, BYTES_PER_S, COUNT, PLAIN})


class Says(NamedTuple):
    """What a panel says to its reader, a sentence or two each."""

    shows: str
    bad: str
    do: str

    def text(self) -> str:
        """As Grafana shows it: Markdown, behind the panel's corner."""
        return f"{self.shows}\n\n**Bad:** {self.bad}\n\n**Then:** {self.do}"


class Line(NamedTuple):
    """One query of a panel, and what its lines are called: ``{{pod}}`` is a label."""

    query: str
    legend: str
    exemplars: bool = False
    """Whether dots lead from it to traces; of latencies only."""


class Limits(NamedTuple):
    """From where on a value is worth a look, and from where on it is bad."""

    warn: float | None = None
    bad: float | None = None
    upward: bool = True
    """Whether large is bad; else small is."""

    def steps(self) -> list[models.Threshold]:
        """As Grafana colours them, from the smallest value on."""
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
    """What is bad from this value upward."""
    return Limits(warn, bad)


def below(bad: float, *, good: float | None = None) -> Limits:
    """What is bad below this value; between it and ``good`` it is worth a look."""
    return Limits(good, bad, upward=False)


Panel = Any
"""A builder of the SDK; its classes for panels have no common one with what we call."""


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
    """Lines over time; ``stacked`` when they add up to something, ``most`` is the axis' end.

    ``leads`` are names of boards that say more; the panel links to them.
    """
    made = timeseries.Panel().legend(_legend(len(lines))).tooltip(_tooltip()).min(0)
    made.fill_opacity(60 if stacked else 8).line_width(1).span_nulls(True)
    made.show_points(common.VisibilityMode.NEVER)
    if stacked:
        mode = common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
        made.stacking(mode)
    if most is not None:
        made.max(most)
    if limits != NO_LIMITS:
        dashed = common.GraphThresholdsStyleMode.DASHED
        made.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(dashed))
    if leads:
        _link(made, leads)
    return _finished(made, title, unit, says, lines, limits, width, GRAPH_HEIGHT)


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
    """The last value, large, with its course behind it; one for each line."""
    last = common_builders.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().reduce_options(last).graph_mode(common.BigValueGraphMode.AREA)
    made.color_mode(common.BigValueColorMode.VALUE)
    if decimals is not None:
        made.decimals(decimals)
    if leads:
        _link(made, leads)
    return _finished(made, title, unit, says, lines, limits, width, NUMBER_HEIGHT)


def spread(title: str, unit: str, says: Says, query: str, *, width: int = 12) -> Panel:
    """How a histogram's observations are distributed over time, darker where there are more."""
    made = heatmap.Panel().calculate(False)
    made.y_axis(heatmap.YAxisConfig().unit(unit))
    colours = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME)
    made.color(colours.scheme("Blues").steps(64)).cell_gap(0).show_legend()
    line = Line(query, "{{le}}", exemplars=True)
    made = _finished(made, title, unit, says, (line,), NO_LIMITS, width, GRAPH_HEIGHT)
    made.build().targets[0].format_val = prometheus_models.PromQueryFormat.HEATMAP
    return made


class Column(NamedTuple):
    """One column of a table: a query that gives a value for each row, and its unit."""

    title: str
    unit: str
    query: str
    limits: Limits = NO_LIMITS


def listing(
    title: str, says: Says, by: str, *columns: Column, width: int = WIDTH, height: int = 9
) -> Panel:
    """A row for each value of the label ``by``, a column for each query, as it is now."""
    made = table.Panel().show_header(True)
    for number, column in enumerate(columns):
        ref = chr(ord("A") + number)
        made.with_target(_query(Line(column.query, ""), ref, now=True))
        properties = [models.DynamicConfigValue("unit", column.unit)]
        if column.limits != NO_LIMITS:
            steps = {"mode": "absolute", "steps": column.limits.steps()}
            properties.append(models.DynamicConfigValue("thresholds", steps))
            shown = {"type": "color-text"}
            properties.append(models.DynamicConfigValue("custom.cellOptions", shown))
        made.override_by_name(column.title, properties)
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
        made.with_transformation(joined)
    made.with_transformation(arranged)
    return _finished(made, title, COUNT, says, (), NO_LIMITS, width, height)


def row(question: str) -> dashboard.Row:
    """A row of panels, titled with the question that they answer."""
    return dashboard.Row(question)


def _finished(
    made: Panel,
    title: str,
    unit: str,
    says: Says,
    lines: Sequence[Line],
    limits: Limits,
    width: int,
    height: int,
) -> Panel:
    made.title(title).description(says.text()).unit(unit).datasource(DATASOURCE)
    steps = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    made.thresholds(steps.steps(limits.steps())).span(width).height(height)
    for number, line in enumerate(lines):
        made.with_target(_query(line, chr(ord("A") + number), now=False))
    return made


def _link(made: Panel, boards: Sequence[str]) -> None:
    """Let the panel lead to boards, of the same fleet and time."""
    kept = "${__url_time_range}&${datasource:queryparam}&${namespace:queryparam}"
    made.links(
        [
            dashboard.DashboardLink(f"Board {name}").url(f"/d/midstreamer-{name}?{kept}")
            for name in boards
        ]
    )


def _query(line: Line, ref: str, *, now: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(line.query).legend_format(line.legend)
    made.ref_id(ref).datasource(DATASOURCE)
    if now:
        return made.instant().format(prometheus_models.PromQueryFormat.TABLE)
    made.range()
    return made.exemplar(True) if line.exemplars else made


def _legend(lines: int) -> common_builders.VizLegendOptions:
    made = common_builders.VizLegendOptions().show_legend(True)
    made.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    return made


def _tooltip() -> common_builders.VizTooltipOptions:
    made = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return made.sort(common.SortOrder.DESCENDING)
