"""Draw one panel with matplotlib from query results, similar to how Grafana shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dashboards import panels, value_format
from dashboards.board_reader import Panel
from dashboards.query_results import Answer, Line

INK, FAINT, GRID, PAPER = "#1f2933", "#66727f", "#e4e7eb", "#ffffff"
COLOURS = (
    *("#0072b2", "#d55e00", "#00805f", "#cc79a7", "#56b4e9", "#e69f00"),
    *("#7b61a8", "#8c6d31", "#637939", "#a55194"),
)
"""Colours of lines; the first six can be distinguished by colour-blind readers."""
STEPS = {"green": "#1e8e4f", "orange": "#c77700", "red": "#c92a2a"}
NAMED_MOST = 8
"""Maximum number of entries in the legend of a picture."""
SMALL, MIDDLE = 7.0, 8.5
"""Sizes of the small and the middle font, in points."""


class Drawn(NamedTuple):
    """One line of a picture: its name in the legend, its points and its labels."""

    name: str
    times: Sequence[float]
    values: Sequence[float]
    labels: dict[str, str]


def draw(axes: Any, panel: Panel, answered: Sequence[Answer], begin_s: float) -> None:
    """Draw a panel; write "no data" into it if no result has a finite value."""
    several = lines(answered)
    title = f"{panel.title}"
    axes.set_title(title, loc="left", fontsize=MIDDLE, color=INK, fontweight="bold", pad=5)
    if not any(math.isfinite(value) for each in several for value in each.values):
        _bare(axes)
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color=FAINT, fontsize=MIDDLE)
        return
    DRAWERS[panel.kind](axes, panel, several, begin_s)


def lines(answered: Sequence[Answer]) -> list[Drawn]:
    """Return the lines of a panel, with names made from the legend of each query."""
    return [
        Drawn(named(answer.legend, line), line.times, line.values, dict(line.labels))
        for answer in answered
        for line in answer.lines
    ]


def named(legend: str, line: Line) -> str:
    """Return the name of a line: the legend with the values of the labels filled in."""
    return (
        re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: line.labels.get(found[1], ""), legend).strip()
        or "nothing counted"
    )


def limits(panel: Panel) -> list[tuple[float, str]]:
    """Return the limits of a panel as pairs: a value, and the colour from this value upward."""
    defaults = panel.json.get("fieldConfig", {}).get("defaults", {})
    steps = defaults.get("thresholds", {}).get("steps", [])
    return [(step["value"], step["color"]) for step in steps if step.get("value") is not None]


def colour_of(value: float, panel: Panel) -> str:
    """Return the colour of a value according to the limits of its panel."""
    defaults = panel.json.get("fieldConfig", {}).get("defaults", {})
    return _colour(value, defaults.get("thresholds", {}).get("steps", []))


def _colour(value: float, steps: Sequence[dict[str, Any]]) -> str:
    held = ""
    for step in steps:
        if step.get("value") is None or step["value"] <= value:
            held = step["color"]
    return STEPS.get(held, INK)


# --- kinds of panels ------------------------------------------------------------------------------


def _graph(axes: Any, panel: Panel, several: list[Drawn], begin_s: float) -> None:
    custom = panel.json.get("fieldConfig", {}).get("defaults", {}).get("custom", {})
    if custom.get("stacking", {}).get("mode") == "normal":
        _stacked(axes, several, begin_s)
    else:
        for number, each in enumerate(several):
            shown = [time - begin_s for time in each.times]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(shown, each.values, color=colour, linewidth=1.1, label=each.name)
    _axes(axes, panel, custom)
    _bounds(axes, panel)
    _legend(axes, several)


def _stacked(axes: Any, several: list[Drawn], begin_s: float) -> None:
    times = sorted({time for each in several for time in each.times})
    layers = []
    for each in several:
        known = dict(zip(each.times, each.values, strict=True))
        layers.append([np.nan_to_num(known.get(time, 0.0)) for time in times])
    shown = [time - begin_s for time in times]
    axes.stackplot(
        shown,
        layers,
        labels=[each.name for each in several],
        colors=[COLOURS[at % len(COLOURS)] for at in range(len(several))],
        alpha=0.75,
        linewidth=0,
    )


def _axes(axes: Any, panel: Panel, custom: dict[str, Any]) -> None:
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(labelsize=SMALL, colors=FAINT, length=0)
    axes.yaxis.set_major_locator(_ticker().MaxNLocator(4))
    axes.xaxis.set_major_locator(_ticker().MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: value_format.said(value, panel.unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    _range(axes, panel)


def _range(axes: Any, panel: Panel) -> None:
    """Set the y axis: it includes 0 and has room above the highest value.

    If the axis did not include 0, it would show only a tiny range around a constant line.
    """
    low, high = axes.dataLim.intervaly
    high = high * 1.08 if high > 0 else 1.0
    low = min(low * 1.08, -0.02 * high)  # space below 0: a line at 0 stays visible
    most = panel.json["fieldConfig"]["defaults"].get("max")
    axes.set_ylim(low, high if most is None else most * 1.04)
    if panel.unit in (panels.BYTES, panels.BYTES_PER_S):
        step = 2.0 ** math.ceil(math.log2(max(high, 4.0) / 4))
        axes.yaxis.set_major_locator(_ticker().MultipleLocator(step))
    elif high <= 4 and panel.unit == panels.COUNT and high >= 1:
        axes.yaxis.set_major_locator(_ticker().MaxNLocator(4, integer=True))


def _bounds(axes: Any, panel: Panel) -> None:
    """Draw the limits of the panel as dashed lines.

    A limit far above the data gets no line; a text above the graph gives its value.
    """
    low, high = axes.get_ylim()
    far = []
    for value, colour in limits(panel):
        if value <= max(low, 0.0):
            continue
        if value <= high * 2.5:
            high = max(high, value * 1.1)
            axes.axhline(value, color=STEPS[colour], linewidth=0.9, linestyle=(0, (4, 3)))
        else:
            far.append(value_format.said(value, panel.unit))
    axes.set_ylim(low, high)
    if far:
        text = f"limits above this: {', '.join(far)}"
        axes.set_title(text, loc="right", fontsize=SMALL, color=FAINT, pad=5)


def _legend(axes: Any, several: list[Drawn]) -> None:
    handles, names = axes.get_legend_handles_labels()
    if len(names) > NAMED_MOST:
        names = [*names[: NAMED_MOST - 1], f"and {len(names) - NAMED_MOST + 1} more"]
        handles = handles[:NAMED_MOST]
    axes.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.1),
        ncols=4 if axes.get_position().width > 0.3 else 3,
        fontsize=SMALL,
        labelcolor=INK,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
        borderpad=0,
    )


def _number(axes: Any, panel: Panel, several: list[Drawn], begin_s: float) -> None:
    _bare(axes)
    shown = [each for each in several if _last(each) is not None]
    size = 17 if len(shown) <= 2 else 13 if len(shown) <= 4 else 10
    for number, each in enumerate(shown):
        value = _last(each)
        x = (number + 0.5) / len(shown)
        if panel.json["fieldConfig"]["defaults"].get("decimals") == 0:
            value = round(value)
        text = value_format.said(value, panel.unit)
        style = {"ha": "center", "va": "center", "textcoords": "offset points"}
        place = {"xy": (x, 0.5), "xycoords": "axes fraction"}
        colour = colour_of(value, panel)
        axes.annotate(text, xytext=(0, 5), fontsize=size, color=colour, **place, **style)
        axes.annotate(each.name, xytext=(0, -13), fontsize=SMALL, color=FAINT, **place, **style)


def _last(drawn: Drawn) -> Any:
    known = [value for value in drawn.values if math.isfinite(value)]
    return known[-1] if known else None


def _heat(axes: Any, panel: Panel, several: list[Drawn], begin_s: float) -> None:
    ordered = sorted(several, key=lambda each: float(each.labels["le"]))
    times = sorted({time for each in ordered for time in each.times})
    cumulative = np.zeros((len(ordered), len(times)))
    for row, each in enumerate(ordered):
        known = dict(zip(each.times, each.values, strict=True))
        cumulative[row] = [np.nan_to_num(known.get(time, 0.0)) for time in times]
    cells = np.maximum(np.diff(cumulative, axis=0, prepend=0.0), 0.0)
    shown = np.array(times) - begin_s
    edges = np.append(shown, shown[-1] + 1.0)
    axes.pcolormesh(
        edges, np.arange(len(ordered) + 1), np.sqrt(cells), cmap="Blues", rasterized=True
    )
    unit = panel.json["options"]["yAxis"].get("unit", panel.unit)
    tops = [value_format.said(float(each.labels["le"]), unit) for each in ordered]
    places = np.arange(1, len(ordered) + 1)
    axes.set_yticks(places[::2], [name.replace("–", "more") for name in tops[::2]])
    axes.tick_params(labelsize=SMALL, colors=FAINT, length=0)
    axes.xaxis.set_major_locator(_ticker().MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    text = "darker: more observations; left: the upper limit of each band"
    place = {"transform": axes.transAxes, "ha": "left", "va": "top"}
    axes.text(0, -0.12, text, fontsize=SMALL, color=FAINT, **place)


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(GRID)


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


# --- tables ---------------------------------------------------------------------------------------


class Column(NamedTuple):
    """One column of a table: title, unit, limits with their colours, and the value of each row."""

    title: str
    unit: str
    steps: list[dict[str, Any]]
    values: dict[str, float]


def columns(panel: Panel, answered: Sequence[Answer]) -> tuple[str, list[Column]]:
    """Return the label whose values are the row names of a table, and the columns in order."""
    arranged = next(
        each["options"] for each in panel.json["transformations"] if each["id"] == "organize"
    )
    titles = list(arranged["renameByName"].values())
    by = next(name for name, at in arranged["indexByName"].items() if at == 0)
    settings = {
        each["matcher"]["options"]: {item["id"]: item["value"] for item in each["properties"]}
        for each in panel.json["fieldConfig"]["overrides"]
    }
    found = []
    for title, answer in zip(titles, answered, strict=True):
        values = {line.labels.get(by, ""): line.values[-1] for line in answer.lines}
        own = settings.get(title, {})
        steps = own.get("thresholds", {}).get("steps", [])
        found.append(Column(title, own.get("unit", panel.unit), steps, values))
    return by, found


def listed(axes: Any, panel: Panel, answered: Sequence[Answer]) -> None:
    """Draw a panel of the type table, with a row for each value of a label."""
    by, several = columns(panel, answered)
    _bare(axes)
    axes.set_title(panel.title, loc="left", fontsize=MIDDLE, color=INK, fontweight="bold", pad=5)
    names = sorted({name for each in several for name in each.values})
    width, height = 1 / (len(several) + 1), 1 / (len(names) + 1)
    style = {"transform": axes.transAxes, "va": "center", "fontsize": SMALL + 0.5}
    for at, title in enumerate([by, *(each.title for each in several)]):
        place = (0.01 + at * width, 1 - height / 2)
        axes.text(*place, title, color=FAINT, fontweight="bold", **style)
    for row, name in enumerate(names, 1):
        y = 1 - (row + 0.5) * height
        axes.axhline(1 - row * height, color=GRID, linewidth=0.6)
        axes.text(0.01, y, name, color=INK, **style)
        for at, each in enumerate(several, 1):
            if name in each.values:
                text = value_format.said(each.values[name], each.unit)
                axes.text(
                    0.01 + at * width,
                    y,
                    text,
                    color=_colour(each.values[name], each.steps),
                    **style,
                )
    axes.set_ylim(0, 1)


DRAWERS: dict[str, Callable[[Any, Panel, list[Drawn], float], None]] = {
    "timeseries": _graph,
    "stat": _number,
    "heatmap": _heat,
}
