"""Send every query of every dashboard to a real Prometheus that scrapes a real fleet under load.

    python -m dashboards live --seconds 90

The fleet is the one of `tests.observed`: each component, the operator, and a client whose requests
are partly refused.  A load test with a fleet of its own runs beside it.  Prometheus evaluates our
rules.  The run fails if a query or a variable has no data.  The results are written to a file, from
which `dashboards.pictures` draws.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dashboards import board_reader, built_dashboards, query_results, rules, small_load
from dashboards.board import Board
from dashboards.board_reader import Query
from dashboards.query_results import Answer, Kept, Line
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace, Prometheus

KEPT = built_dashboards.ROOT / ".cache/dashboards/answers.json"
"""File with the results of the last run."""
SCRAPE_S = 1.0
"""Seconds between two scrapes, and between two evaluations of the rules."""
INTERVAL = "15s"
"""Window of the rates: the queries have this value in place of Grafana's `$__rate_interval`.

Grafana would choose 4 s here, but over so short a window the rates of rare requests jump.
"""
ASKS_S = 60.0
"""Seconds for which the load goes on while the queries of the dashboards are sent."""
UP_S = 240.0
"""Longest wait in seconds until all targets are scraped.

One target is the load test, which is slow to start because it first starts a fleet of its own.
"""
SETTLES_S = 15.0
"""Seconds of load before the measured time, so that the first window of rates is full of data."""
STEP_S = 1.0
"""Seconds between two points of a range query."""
VALUES = {"namespace": "local", "pod": ".+", "universe": ".+", "pool": ".+"}
"""What the queries have in place of the dashboards' variables.

``local`` is the namespace of the fleet. ``.+`` is a regular expression that matches every value.
"""


async def run(seconds: float) -> int:
    """Run a fleet under load and send all queries.

    Return 0 if every query and every variable has data, else 1.
    """
    with tempfile.TemporaryDirectory(prefix="midstreamer-boards-") as folder:
        lasts_s = seconds + SETTLES_S + ASKS_S
        async with _looked_at(Path(folder), lasts_s) as asked:
            print(f"everything is scraped; {seconds:g} s of load", flush=True)
            await asyncio.sleep(SETTLES_S)
            began = time.time()
            await asyncio.sleep(seconds)
            kept = await everything(asked, began, time.time())
    query_results.write(KEPT, kept)
    print(
        query_results.table(
            kept.answers, {board.uid: board.title for board in built_dashboards.boards()}
        )
    )
    return 0 if all(each.has_data for each in kept.answers) else 1


@asynccontextmanager
async def _looked_at(folder: Path, lasts_s: float) -> AsyncIterator[Prometheus]:
    pace = Pace(scrape_s=SCRAPE_S, evaluation_s=SCRAPE_S)
    kept = rules.written(folder)
    async with (
        fleet.observed(folder / "fleet", news=print) as seen,
        small_load.running(folder / "load", lasts_s) as load,
        prometheus.running(
            folder / "data", [*seen.targets(), load], rules=kept, pace=pace
        ) as asked,
    ):
        await asked.all_up(within_s=UP_S)
        fleet.pods_ready(seen.cluster.server)
        yield asked


async def everything(asked: Prometheus, begin_s: float, end_s: float) -> Kept:
    """Return the results of every query and variable of every dashboard, for a range of time."""
    found: list[Answer] = []
    for board in built_dashboards.boards():
        found += await _variables(asked, board)
        for panel in board_reader.panels(board.read()):
            for query in panel.queries:
                found.append(await _answered(asked, board, panel.title, query, begin_s, end_s))
    return Kept(begin_s, end_s, tuple(found))


async def _variables(asked: Prometheus, board: Board) -> list[Answer]:
    found = []
    for variable in board_reader.variables(board.read()):
        series = board_reader.filled(variable.series, VALUES)
        values = await asked.label_values(variable.label, series)
        lines = tuple(Line({variable.label: value}, (0.0,), (1.0,)) for value in values)
        found.append(Answer(board.uid, f"${variable.name}", series, "", lines))
    return found


async def _answered(
    asked: Prometheus, board: Board, panel: str, query: Query, begin_s: float, end_s: float
) -> Answer:
    text = board_reader.filled(query.text, {**VALUES, "__rate_interval": INTERVAL})
    lines = await _lines(asked, text, query.instant, begin_s, end_s)
    bare = query_results.without_default(text)
    quiet = bare != text and not await asked.query(bare, at_s=end_s)
    return Answer(board.uid, panel, text, query.legend, lines, quiet)


async def _lines(
    asked: Prometheus, text: str, instant: bool, begin_s: float, end_s: float
) -> tuple[Line, ...]:
    if instant:
        samples = await asked.query(text, at_s=end_s)
        return tuple(Line(dict(each.labels), (end_s,), (each.value,)) for each in samples)
    several = await asked.query_range(text, begin_s=begin_s, end_s=end_s, step_s=STEP_S)
    return tuple(Line(dict(each.labels), each.times, each.values) for each in several)
