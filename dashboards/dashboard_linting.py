"""Rules for dashboards: those of Grafana's dashboard-linter that apply, and our own.

Each rule takes a built dashboard and yields complaints: which panel, and what is wrong.  Each entry
of the list `EXCEPTIONS` excuses one complaint and has a reason for it.  An entry that excuses
nothing is itself a complaint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dashboards import board_reader, panels, query_checks
from dashboards.board import TAG
from dashboards.board_reader import Panel
from midstreamer.telemetry import metrics

Board = Mapping[str, Any]
"""A built dashboard: the JSON object that Grafana imports."""
KINDS = frozenset({"timeseries", "stat", "heatmap", "table"})
"""Grafana's types of panels that we use."""
TRACED = (metrics.name(metrics.REQUEST_LATENCY_S), metrics.name(metrics.CALL_LATENCY_S))
"""Histograms whose observations carry a trace id (exemplars)."""
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LETTERS = 6
"""Number of characters of a panel's title that fit into one column of Grafana's grid."""


class Complaint(NamedTuple):
    """One violation of a rule: the rule, the dashboard, the panel and the reason."""

    rule: str
    board: str
    panel: str
    """Title of the panel; empty if the complaint is about the whole dashboard."""
    why: str

    def __str__(self) -> str:
        where = f"{self.board} / {self.panel}" if self.panel else self.board
        return f"{where}: {self.why} [{self.rule}]"


Found = Iterator[tuple[str, str]]
"""Complaints that one rule found, each a pair: the title of the panel, and what is wrong there."""


class Exempt(NamedTuple):
    """An entry of `EXCEPTIONS`: a complaint that is excused, and the reason why."""

    rule: str
    board: str
    panel: str
    reason: str


EXCEPTIONS: tuple[Exempt, ...] = ()


def boards_are_known(board: Board) -> Found:
    """A dashboard has a uid, a title, a description and the tag `TAG`.

    Every dashboard of ours links to all dashboards with this tag.
    """
    for key in ("uid", "title", "description"):
        if not board.get(key):
            yield "", f"it has no {key}"
    if TAG not in board.get("tags", []):
        yield "", f"it does not have the tag {TAG}: other dashboards do not link to it"


def boards_are_code(board: Board) -> Found:
    """A dashboard is read-only in the browser, because the next deployment undoes edits."""
    if board.get("editable", True):
        yield "", "it is editable: make it readonly"


def datasource_is_chosen(board: Board) -> Found:
    """The data source is a variable, and every panel and query uses this variable."""
    listed = board.get("templating", {}).get("list", [])
    if not any(
        each.get("type") == "datasource" and each.get("query") == "prometheus" for each in listed
    ):
        yield "", "it has no variable for the data source"
    for panel in board_reader.panels(board):
        sources = [panel.json.get("datasource"), *_of_targets(panel, "datasource")]
        if any((source or {}).get("uid") != "${datasource}" for source in sources):
            yield panel.title, "its data source is not the variable ${datasource}"


def variables_are_kept(board: Board) -> Found:
    """A dashboard has a variable `namespace`, and Grafana can read the choices of each variable.

    The choices of a variable are the values of a label of some series. The metric and the labels of
    this series must exist. Grafana must read the choices again when the user changes the time
    range.
    """
    try:
        found = list(board_reader.variables(board))
    except ValueError as error:
        yield "", str(error)
        return
    if "namespace" not in [each.name for each in found]:
        yield "", "it has no variable namespace"
    for each in found:
        if each.json.get("refresh") != 2:
            yield "", f"variable {each.name} is not refreshed when the time range changes"
        for rule, why in query_checks.complaints(each.series, VARIABLE_RULES):
            yield "", f"variable {each.name}: {why} ({rule})"


VARIABLE_RULES = (
    query_checks.metrics_exist,
    query_checks.labels_exist,
    query_checks.expressions_are_needed,
)


def variables_are_used(board: Board) -> Found:
    """Every variable is used by a query, and every variable in a query is defined."""
    listed = [each["name"] for each in board.get("templating", {}).get("list", [])]
    text = " ".join(query.text for panel in board_reader.panels(board) for query in panel.queries)
    for name in listed:
        if name != "datasource" and not re.search(rf"\${name}\b", text):
            yield "", f"no panel uses the variable {name}"
    for name in sorted(set(re.findall(r"\$(\w+)", text)) - {"__rate_interval", *listed}):
        yield "", f"a query uses ${name}, which is no variable of the dashboard"


def rows_ask(board: Board) -> Found:
    """Every panel belongs to a row, and the title of each row is a unique question."""
    asked = board_reader.rows(board)
    for title in asked:
        if not title.endswith("?"):
            yield title, "its title is no question: end it with a question mark"
        if asked.count(title) > 1:
            yield title, "another row has the same title"
    for panel in board_reader.panels(board):
        if not panel.row:
            yield panel.title, "it belongs to no row"


def panels_speak(board: Board) -> Found:
    """A panel has a short, unique title, and a description in the three parts of `panels.Says`."""
    titles = [(panel.row, panel.title) for panel in board_reader.panels(board)]
    for panel in board_reader.panels(board):
        most = LETTERS * panel.json["gridPos"]["w"]
        if not 0 < len(panel.title) <= most:
            yield panel.title, f"its title has {len(panel.title)} characters: 1 to {most} fit"
        if titles.count((panel.row, panel.title)) > 1:
            yield panel.title, "another panel of the row has the same title"
        said = str(panel.json.get("description", ""))
        if not re.fullmatch(r"\S.+\n\n\*\*Bad:\*\* \S.+\n\n\*\*Then:\*\* \S.+", said):
            yield (
                panel.title,
                "its description does not say what it shows, what is bad and what to do",
            )


def panels_have_units(board: Board) -> Found:
    """A panel has one of `KINDS` as its type, and one of `panels.UNITS` as its unit."""
    for panel in board_reader.panels(board):
        if panel.kind not in KINDS:
            yield panel.title, f"it is a {panel.kind or 'nothing'}: take one of {sorted(KINDS)}"
        if panel.unit not in panels.UNITS:
            yield panel.title, f"its unit is {panel.unit!r}: take one of {sorted(panels.UNITS)}"


def panels_do_not_overlap(board: Board) -> Found:
    """Panels do not overlap, and end within the width of the grid."""
    taken: dict[tuple[int, int], str] = {}
    for panel in board_reader.panels(board):
        at = panel.json["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        if x + at["w"] > panels.WIDTH:
            yield panel.title, f"it ends at column {x + at['w']} of {panels.WIDTH}"
        cells = [(x + dx, y + dy) for dx in range(at["w"]) for dy in range(at["h"])]
        for over in sorted({taken[cell] for cell in cells if cell in taken}):
            yield panel.title, f"it overlaps {over!r}"
        taken |= dict.fromkeys(cells, panel.title)


def queries_are_true(board: Board) -> Found:
    """Every panel has a query, and every query follows the rules of `dashboards.query_checks`."""
    for panel in board_reader.panels(board):
        if not panel.queries:
            yield panel.title, "it has no query"
        for query in panel.queries:
            for rule, why in query_checks.complaints(query.text):
                yield panel.title, f"{why} ({rule})"


def legends_tell_lines_apart(board: Board) -> Found:
    """The legend of a query names every label of the query's result, and no other label.

    Otherwise two lines of a graph could have the same name.
    """
    for panel in board_reader.panels(board):
        for query in panel.queries:
            if query.instant or panel.kind == "heatmap":
                continue
            if not query.legend:
                yield panel.title, "one of its queries has no legend"
            try:
                has = query_checks.kept(query_checks.parsed(query.text)) or frozenset()
            except ValueError:
                continue
            named = set(LEGEND_LABEL.findall(query.legend))
            if named - has:
                labels = ", ".join(sorted(named - has))
                yield panel.title, f"its legend names {labels}, which the result does not have"
            if has - named:
                labels = ", ".join(sorted(has - named))
                yield panel.title, f"its lines differ by {labels}, which its legend does not name"


def latencies_lead_to_traces(board: Board) -> Found:
    """A graph of one of the `TRACED` histograms shows exemplars on at least one line."""
    for panel in board_reader.panels(board):
        if panel.kind not in ("timeseries", "heatmap"):
            continue
        asked = [query for query in panel.queries if _is_latency(query.text)]
        if asked and not any(query.exemplars for query in asked):
            yield (
                panel.title,
                "none of its queries has exemplars: set exemplars=True on one, to link to traces",
            )


def _is_latency(text: str) -> bool:
    spreads = "histogram_quantile" in text or text.startswith("sum by (le)")
    return spreads and any(f"{name}_bucket" in text for name in TRACED)


def _of_targets(panel: Panel, key: str) -> list[Any]:
    return [target.get(key) for target in panel.json.get("targets", [])]


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
    """Return all complaints that no entry of ``exceptions`` excuses.

    An entry that excuses nothing becomes a complaint itself.
    """
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
