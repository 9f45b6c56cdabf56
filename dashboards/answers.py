"""What a Prometheus answered to the queries of boards: kept as data, judged, told as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DEFAULT = " or vector(0)"
"""What makes a query say 0 where nothing was counted."""


class Line(NamedTuple):
    """One series of an answer: its labels, and its values at times in seconds since 1970."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


class Answer(NamedTuple):
    """What one query, or the choices of one variable, gave."""

    board: str
    panel: str
    """Of a variable: its name behind a ``$``."""
    query: str
    """As it was asked, with values for its variables."""
    legend: str
    lines: tuple[Line, ...]
    quiet: bool = False
    """Whether it says 0 only because nothing was counted."""

    @property
    def has_data(self) -> bool:
        """Whether anything can be drawn."""
        return any(math.isfinite(value) for line in self.lines for value in line.values)


class Kept(NamedTuple):
    """A whole run: when it was, which values the variables had, what was answered."""

    begin_s: float
    end_s: float
    answers: tuple[Answer, ...]

    def of(self, board: str, panel: str) -> list[Answer]:
        """The answers of one panel, in the order of its queries."""
        return [each for each in self.answers if (each.board, each.panel) == (board, panel)]


def without_default(query: str) -> str:
    """The query without the 0 that it says where nothing was counted."""
    return query.replace(DEFAULT, "")


def write(path: Path, kept: Kept) -> None:
    """Keep a run as JSON."""
    told = {
        "begin_s": kept.begin_s,
        "end_s": kept.end_s,
        "answers": [
            {**each._asdict(), "lines": [line._asdict() for line in each.lines]}
            for each in kept.answers
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), encoding="utf-8")


def read(path: Path) -> Kept:
    """A run that was kept; FileNotFoundError when there is none."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Kept(told["begin_s"], told["end_s"], tuple(_answer(each) for each in told["answers"]))


def _answer(told: dict[str, Any]) -> Answer:
    lines = tuple(
        Line(each["labels"], tuple(each["times"]), tuple(each["values"])) for each in told["lines"]
    )
    return Answer(**{**told, "lines": lines})


def table(answers: Iterable[Answer], titles: Mapping[str, str]) -> str:
    """Boards with the numbers of panels, queries, and those with data; then what has none."""
    several = list(answers)
    head = f"{'board':28}{'panels':>8}{'queries':>9}{'with data':>11}{'quiet':>7}"
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
