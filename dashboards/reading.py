"""Built boards as data: their panels and queries, whoever has made them.

What lints, runs and draws boards reads them here from JSON, so that it speaks of what is shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ROW = "row"
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


class Query(NamedTuple):
    """One query of a panel."""

    text: str
    legend: str
    instant: bool
    exemplars: bool


class Panel(NamedTuple):
    """One panel of a built board, and the question of its row."""

    row: str
    told: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What stands above it."""
        return str(self.told.get("title", ""))

    @property
    def kind(self) -> str:
        """What draws it: timeseries, stat, heatmap, table."""
        return str(self.told.get("type", ""))

    @property
    def unit(self) -> str:
        """The unit of its values; empty when it has none."""
        defaults = self.told.get("fieldConfig", {}).get("defaults", {})
        return str(defaults.get("unit", ""))

    @property
    def queries(self) -> list[Query]:
        """All of them."""
        return [
            Query(
                each.get("expr", ""),
                each.get("legendFormat", ""),
                bool(each.get("instant")),
                bool(each.get("exemplar")),
            )
            for each in self.told.get("targets", [])
        ]


class Variable(NamedTuple):
    """One choice at the head of a board that Prometheus fills."""

    name: str
    series: str
    label: str
    told: Mapping[str, Any]


def panels(board: Mapping[str, Any]) -> Iterator[Panel]:
    """The panels in their order, without the rows themselves."""
    row = ""
    for told in board.get("panels", []):
        if told.get("type") == ROW:
            row = told.get("title", "")
        else:
            yield Panel(row, told)


def rows(board: Mapping[str, Any]) -> list[str]:
    """The titles of the rows."""
    return [told.get("title", "") for told in board.get("panels", []) if told["type"] == ROW]


def variables(board: Mapping[str, Any]) -> Iterator[Variable]:
    """The choices that Prometheus fills; ValueError for one that is not ``label_values``."""
    for told in board.get("templating", {}).get("list", []):
        if told.get("type") != "query":
            continue
        asked = LABEL_VALUES.fullmatch(str(told.get("query", "")))
        if asked is None:
            raise ValueError(
                f"variable {told.get('name')!r} asks {told.get('query')!r}:"
                " ask label_values(series, label)"
            )
        yield Variable(told["name"], asked["series"], asked["label"], told)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A query with values for its variables, as Grafana puts them in before it asks."""
    known = "|".join(map(re.escape, values))
    return re.sub(
        rf"\$(?:\{{({known})\}}|({known})\b)", lambda found: values[found[1] or found[2]], text
    )
