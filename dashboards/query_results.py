"""Store the results of dashboards' queries as JSON, read them, and count those that have data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DEFAULT = " or on() vector(0)"
"""PromQL at the end of a query that turns "no series" into the value 0."""


class Line(NamedTuple):
    """One series of a query result: labels, and values at times in seconds since 1970."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


class Answer(NamedTuple):
    """The result of one query of a panel, or the choices of one dashboard variable."""

    board: str
    panel: str
    """The title of the panel; for a variable, its name with a ``$`` in front."""
    query: str
    """The PromQL that was sent, with values in place of the variables."""
    legend: str
    lines: tuple[Line, ...]
    quiet: bool = False
    """Whether the query found no series, so that its result is only the 0 that `DEFAULT` adds."""

    @property
    def has_data(self) -> bool:
        """Whether the result has at least one finite value."""
        return any(math.isfinite(value) for line in self.lines for value in line.values)


class Kept(NamedTuple):
    """All results of one live run, and when the run began and ended (seconds since 1970)."""

    begin_s: float
    end_s: float
    answers: tuple[Answer, ...]

    def of(self, board: str, panel: str) -> list[Answer]:
        """Return the results of the queries of one panel, in the order of the queries."""
        return [each for each in self.answers if (each.board, each.panel) == (board, panel)]


def without_default(query: str) -> str:
    """Return the query without `DEFAULT`: if it finds no series, its result is empty and not 0."""
    return query.replace(DEFAULT, "")


def write(path: Path, kept: Kept) -> None:
    """Write the results of a run to a JSON file; missing folders are created."""
    content = {
        "begin_s": kept.begin_s,
        "end_s": kept.end_s,
        "answers": [
            {**each._asdict(), "lines": [line._asdict() for line in each.lines]}
            for each in kept.answers
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def read(path: Path) -> Kept:
    """Return the run that was written to a file; raise FileNotFoundError if there is no file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Kept(
        content["begin_s"], content["end_s"], tuple(_answer(each) for each in content["answers"])
    )


def _answer(stored: dict[str, Any]) -> Answer:
    lines = tuple(
        Line(each["labels"], tuple(each["times"]), tuple(each["values"]))
        for each in stored["lines"]
    )
    return Answer(**{**stored, "lines": lines})


def table(answers: Iterable[Answer], titles: Mapping[str, str]) -> str:
    """Return a table with one row of counts for each dashboard, and one row for all of them.

    The counts are: panels, queries, results with data, and quiet results (`Answer.quiet`).  Below
    the table, each query with a quiet result or without data has a line.
    """
    several = list(answers)
    head = f"{'dashboard':28}{'panels':>8}{'queries':>9}{'with data':>11}{'quiet':>7}"
    rows = [_row(title, [a for a in several if a.board == uid]) for uid, title in titles.items()]
    silent = [
        f"no data: {titles[each.board]} / {each.panel}: {each.query}"
        for each in several
        if not each.has_data
    ]
    quiet = [
        f"quiet: {titles[each.board]} / {each.panel}: nothing was counted"
        for each in several
        if each.quiet
    ]
    return "\n".join([head, *rows, _row("all", several), *quiet, *silent])


def _row(title: str, several: list[Answer]) -> str:
    panels = {(each.board, each.panel) for each in several if not each.panel.startswith("$")}
    data = sum(each.has_data for each in several)
    quiet = sum(each.quiet for each in several)
    return f"{title:28}{len(panels):>8}{len(several):>9}{data:>11}{quiet:>7}"
