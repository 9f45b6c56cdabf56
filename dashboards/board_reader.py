"""Read panels, queries and variables from the JSON of a built dashboard.

The modules that check, query and draw dashboards use these functions.  They therefore work on the
JSON that is shipped, and not on the Python code that built it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ROW = "row"
"""The type of a panel that is the header of a row."""
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


class Query(NamedTuple):
    """One query of a panel: PromQL and legend; whether it is instant; whether it has exemplars."""

    text: str
    legend: str
    instant: bool
    exemplars: bool


class Panel(NamedTuple):
    """One panel of a built dashboard.

    ``row`` is the title of the row to which the panel belongs.  Titles of rows are questions.
    """

    row: str
    json: Mapping[str, Any]
    """The JSON object of the panel."""

    @property
    def title(self) -> str:
        """The title of the panel."""
        return str(self.json.get("title", ""))

    @property
    def kind(self) -> str:
        """Grafana's type of the panel: timeseries, stat, heatmap or table."""
        return str(self.json.get("type", ""))

    @property
    def unit(self) -> str:
        """The unit of the values in Grafana's spelling; empty if there is none."""
        defaults = self.json.get("fieldConfig", {}).get("defaults", {})
        return str(defaults.get("unit", ""))

    @property
    def queries(self) -> list[Query]:
        """The queries of the panel, in their order."""
        return [
            Query(
                each.get("expr", ""),
                each.get("legendFormat", ""),
                bool(each.get("instant")),
                bool(each.get("exemplar")),
            )
            for each in self.json.get("targets", [])
        ]


class Variable(NamedTuple):
    """A variable of a dashboard, whose choices are the values of ``label`` in ``series``."""

    name: str
    series: str
    label: str
    json: Mapping[str, Any]
    """The JSON object of the variable."""


def panels(board: Mapping[str, Any]) -> Iterator[Panel]:
    """Yield the panels in their order, without the headers of rows."""
    row = ""
    for told in board.get("panels", []):
        if told.get("type") == ROW:
            row = told.get("title", "")
        else:
            yield Panel(row, told)


def rows(board: Mapping[str, Any]) -> list[str]:
    """Return the titles of the rows in their order."""
    return [told.get("title", "") for told in board.get("panels", []) if told["type"] == ROW]


def variables(board: Mapping[str, Any]) -> Iterator[Variable]:
    """Yield the variables whose choices Grafana gets with a query.

    Raise ValueError if a query is not of the form ``label_values(series, label)``.
    """
    for told in board.get("templating", {}).get("list", []):
        if told.get("type") != "query":
            continue
        asked = LABEL_VALUES.fullmatch(str(told.get("query", "")))
        if asked is None:
            raise ValueError(
                f"variable {told.get('name')!r} has the query {told.get('query')!r}:"
                " use label_values(series, label)"
            )
        yield Variable(told["name"], asked["series"], asked["label"], told)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a query with its variables replaced by values, as Grafana does before it sends it."""
    known = "|".join(map(re.escape, values))
    return re.sub(
        rf"\$(?:\{{({known})\}}|({known})\b)", lambda found: values[found[1] or found[2]], text
    )
