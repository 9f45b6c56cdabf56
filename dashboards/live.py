"""Every query of every board, asked of a real Prometheus that scrapes a real fleet under load.

    python -m dashboards live --seconds 90

The fleet is the one of `tests.observed`: each component, the operator and a client that asks and
is refused.  A load test with a fleet of its own runs beside it.  Prometheus keeps our rules.  A
query or a variable that gives no data fails the run.  What was answered is kept for
`dashboards.pictures`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dashboards import answers, built, generator, reading, rules
from dashboards.answers import Answer, Kept, Line
from dashboards.board import Board
from dashboards.reading import Query
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace, Prometheus

KEPT = built.ROOT / ".cache/dashboards/answers.json"
SCRAPE_S = 1.0
INTERVAL = "15s"
"""For `$__rate_interval`, which would be 4 s: one that smooths what only a few requests make."""
ASKS_S = 60.0
"""The load goes on so long after, while queries are asked."""
UP_S = 240.0
"""Longest until everything is scraped; a load test has a fleet of its own to start."""
SETTLES_S = 15.0
"""After which an interval is full."""
STEP_S = 1.0
VALUES = {"namespace": "local", "pod": ".+", "universe": ".+", "pool": ".+"}
"""What variables say: all that there is."""


async def run(seconds: float) -> int:
    """Ask everything after so many seconds of load; 1 when something has no data."""
    with tempfile.TemporaryDirectory(prefix="midstreamer-boards-") as folder:
        lasts_s = seconds + SETTLES_S + ASKS_S
        async with _looked_at(Path(folder), lasts_s) as asked:
            print(f"everything is scraped; {seconds:g} s of load", flush=True)
            await asyncio.sleep(SETTLES_S)
            began = time.time()
            await asyncio.sleep(seconds)
            kept = await everything(asked, began, time.time())
    answers.write(KEPT, kept)
    print(answers.table(kept.answers, {board.uid: board.title for board in built.boards()}))
    return 0 if all(each.has_data for each in kept.answers) else 1


@asynccontextmanager
async def _looked_at(folder: Path, lasts_s: float) -> AsyncIterator[Prometheus]:
    pace = Pace(scrape_s=SCRAPE_S, evaluation_s=SCRAPE_S)
    kept = rules.written(folder)
    async with (
        fleet.observed(folder / "fleet", news=print) as seen,
        generator.running(folder / "load", lasts_s) as load,
        prometheus.running(
            folder / "data", [*seen.targets(), load], rules=kept, pace=pace
        ) as asked,
    ):
        await asked.all_up(within_s=UP_S)
        fleet.pods_ready(seen.cluster.server)
        yield asked


async def everything(asked: Prometheus, begin_s: float, end_s: float) -> Kept:
    """What every query and variable of every board gives over this time."""
    found: list[Answer] = []
    for board in built.boards():
        found += await _variables(asked, board)
        for panel in reading.panels(board.read()):
            for query in panel.queries:
                found.append(await _answered(asked, board, panel.title, query, begin_s, end_s))
    return Kept(begin_s, end_s, tuple(found))


async def _variables(asked: Prometheus, board: Board) -> list[Answer]:
    found = []
    for variable in reading.variables(board.read()):
        series = reading.filled(variable.series, VALUES)
        values = await asked.label_values(variable.label, series)
        lines = tuple(Line({variable.label: value}, (0.0,), (1.0,)) for value in values)
        found.append(Answer(board.uid, f"${variable.name}", series, "", lines))
    return found


async def _answered(
    asked: Prometheus, board: Board, panel: str, query: Query, begin_s: float, end_s: float
) -> Answer:
    text = reading.filled(query.text, {**VALUES, "__rate_interval": INTERVAL})
    lines = await _lines(asked, text, query.instant, begin_s, end_s)
    bare = answers.without_default(text)
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
