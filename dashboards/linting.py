"""Rules that boards are held to; those of Grafana's dashboard-linter that apply, and our own.

Each rule takes a built board and gives complaints: where, and what to do.  An exception needs a
reason, and one that excuses nothing any more is itself a complaint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dashboards import panels, queries, reading
from dashboards.board import TAG
from dashboards.reading import Panel
from midstreamer.telemetry import metrics

Board = Mapping[str, Any]
KINDS = frozenset({"timeseries", "stat", "heatmap", "table"})
TRACED = (metrics.name(metrics.REQUEST_LATENCY_S), metrics.name(metrics.CALL_LATENCY_S))
"""Histograms whose observations carry the id of their trace."""
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LETTERS = 6
"""Of a title, for each column that a panel is wide."""


class Complaint(NamedTuple):
    """What is wrong where, by which rule."""

    rule: str
    board: str
    panel: str
    """Empty when it is about the whole board."""
    why: str

    def __str__(self) -> str:
        where = f"{self.board} / {self.panel}" if self.panel else self.board
        return f"{where}: {self.why} [{self.rule}]"


Found = Iterator[tuple[str, str]]
"""Complaints of one rule: the panel, and why."""


class Exempt(NamedTuple):
    """A complaint that is let pass."""

    rule: str
    board: str
    panel: str
    reason: str


EXCEPTIONS: tuple[Exempt, ...] = ()


def boards_are_known(board: Board) -> Found:
    """A board has an identity, a title, a description and the tag by which links find it."""
    for key in ("uid", "title", "description"):
        if not board.get(key):
            yield "", f"it has no {key}"
    if TAG not in board.get("tags", []):
        yield "", f"it has not the tag {TAG}: the links of the others do not show it"


def boards_are_code(board: Board) -> Found:
    """A board cannot be edited in the browser: the next deployment would undo it."""
    if board.get("editable", True):
        yield "", "it is editable: make it readonly"


def datasource_is_chosen(board: Board) -> Found:
    """The data source is a variable, and every panel and query takes it."""
    listed = board.get("templating", {}).get("list", [])
    if not any(
        each.get("type") == "datasource" and each.get("query") == "prometheus" for each in listed
    ):
        yield "", "it has no variable for the data source"
    for panel in reading.panels(board):
        sources = [panel.told.get("datasource"), *_of_targets(panel, "datasource")]
        if any((source or {}).get("uid") != "${datasource}" for source in sources):
            yield panel.title, "its data source is not the variable ${datasource}"


def variables_are_kept(board: Board) -> Found:
    """There is a namespace to choose; choices follow the time, and ask what exists."""
    try:
        found = list(reading.variables(board))
    except ValueError as error:
        yield "", str(error)
        return
    if "namespace" not in [each.name for each in found]:
        yield "", "it has no variable namespace"
    for each in found:
        if each.told.get("refresh") != 2:
            yield "", f"variable {each.name} is not asked again when the time changes"
        for rule, why in queries.complaints(each.series, VARIABLE_RULES):
            yield "", f"variable {each.name}: {why} ({rule})"


VARIABLE_RULES = (queries.metrics_exist, queries.labels_exist, queries.expressions_are_needed)


def variables_are_used(board: Board) -> Found:
    """What can be chosen changes something, and what a query takes can be chosen."""
    listed = [each["name"] for each in board.get("templating", {}).get("list", [])]
    text = " ".join(query.text for panel in reading.panels(board) for query in panel.queries)
    for name in listed:
        if name != "datasource" and not re.search(rf"\${name}\b", text):
            yield "", f"no panel takes the variable {name}"
    for name in sorted(set(re.findall(r"\$(\w+)", text)) - {"__rate_interval", *listed}):
        yield "", f"a query takes ${name}, which is no variable of the board"


def rows_ask(board: Board) -> Found:
    """Each panel stands in a row whose title is a question, asked once."""
    asked = reading.rows(board)
    for title in asked:
        if not title.endswith("?"):
            yield title, "its title is no question"
        if asked.count(title) > 1:
            yield title, "another row asks the same"
    for panel in reading.panels(board):
        if not panel.row:
            yield panel.title, "it stands in no row"


def panels_speak(board: Board) -> Found:
    """A panel has a short title of its own, and says what it shows, what is bad, what to do."""
    titles = [(panel.row, panel.title) for panel in reading.panels(board)]
    for panel in reading.panels(board):
        most = LETTERS * panel.told["gridPos"]["w"]
        if not 0 < len(panel.title) <= most:
            yield panel.title, f"its title has {len(panel.title)} characters: 1 to {most} fit"
        if titles.count((panel.row, panel.title)) > 1:
            yield panel.title, "another panel of the row is called so"
        said = str(panel.told.get("description", ""))
        if not re.fullmatch(r"\S.+\n\n\*\*Bad:\*\* \S.+\n\n\*\*Then:\*\* \S.+", said):
            yield panel.title, "its description does not say what it shows, what is bad, what then"


def panels_have_units(board: Board) -> Found:
    """A panel is of a kind that we draw, and its values have a unit that Grafana knows."""
    for panel in reading.panels(board):
        if panel.kind not in KINDS:
            yield panel.title, f"it is a {panel.kind or 'nothing'}: take one of {sorted(KINDS)}"
        if panel.unit not in panels.UNITS:
            yield panel.title, f"its unit is {panel.unit!r}: take one of {sorted(panels.UNITS)}"


def panels_do_not_overlap(board: Board) -> Found:
    """Panels lie beside each other on the grid, within its width."""
    taken: dict[tuple[int, int], str] = {}
    for panel in reading.panels(board):
        at = panel.told["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        if x + at["w"] > panels.WIDTH:
            yield panel.title, f"it ends at column {x + at['w']} of {panels.WIDTH}"
        cells = [(x + dx, y + dy) for dx in range(at["w"]) for dy in range(at["h"])]
        for over in sorted({taken[cell] for cell in cells if cell in taken}):
            yield panel.title, f"it lies over {over!r}"
        taken |= dict.fromkeys(cells, panel.title)


def queries_are_true(board: Board) -> Found:
    """Every panel asks something, and every query keeps the rules of `dashboards.queries`."""
    for panel in reading.panels(board):
        if not panel.queries:
            yield panel.title, "it asks nothing"
        for query in panel.queries:
            for rule, why in queries.complaints(query.text):
                yield panel.title, f"{why} ({rule})"


def legends_tell_lines_apart(board: Board) -> Found:
    """What a line is called has every label by which there are several, and no other."""
    for panel in reading.panels(board):
        for query in panel.queries:
            if query.instant or panel.kind == "heatmap":
                continue
            if not query.legend:
                yield panel.title, "a line of it has no name"
            try:
                has = queries.kept(queries.parsed(query.text)) or frozenset()
            except ValueError:
                continue
            named = set(LEGEND_LABEL.findall(query.legend))
            if named - has:
                told = ", ".join(sorted(named - has))
                yield panel.title, f"its lines are named by {told}, which they do not have"
            if has - named:
                told = ", ".join(sorted(has - named))
                yield panel.title, f"its lines differ by {told}, which their names do not say"


def latencies_lead_to_traces(board: Board) -> Found:
    """A graph of a latency whose observations carry traces shows exemplars, on one of its lines."""
    for panel in reading.panels(board):
        if panel.kind not in ("timeseries", "heatmap"):
            continue
        asked = [query for query in panel.queries if _is_latency(query.text)]
        if asked and not any(query.exemplars for query in asked):
            yield panel.title, "no dot of it leads to a trace: ask for exemplars"


def _is_latency(text: str) -> bool:
    spreads = "histogram_quantile" in text or text.startswith("sum by (le)")
    return spreads and any(f"{name}_bucket" in text for name in TRACED)


def _of_targets(panel: Panel, key: str) -> list[Any]:
    return [target.get(key) for target in panel.told.get("targets", [])]


Rule = Callable[[Board], Found]
RULES: tuple[Rule, ...] = (
    boards_are_known,
    boards_are_code,
    datasource_is_chosen,
    variables_are_kept,
    variables_are_used,
    rows_ask,
    panels_speak,
    panels_have_units,
    panels_do_not_overlap,
    queries_are_true,
    legends_tell_lines_apart,
    latencies_lead_to_traces,
)


def complaints(
    boards: Iterable[Board], exceptions: tuple[Exempt, ...] = EXCEPTIONS
) -> list[Complaint]:
    """Everything that is wrong with boards, but for the exceptions; and exceptions without use."""
    found = [
        Complaint(rule.__name__, str(board.get("uid", "")), panel, why)
        for board in boards
        for rule in RULES
        for panel, why in rule(board)
    ]
    excused = {each[:3]: each for each in exceptions}
    used = {complaint[:3] for complaint in found} & set(excused)
    unused = [
        Complaint("exceptions", each.board, each.panel, f"nothing is excused from {each.rule}")
        for key, each in excused.items()
        if key not in used
    ]
    return [each for each in found if each[:3] not in excused] + unused
