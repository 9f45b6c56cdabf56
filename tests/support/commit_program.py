"""A program that commits Writes to a database, with the code that sync uses.

It imports only `midstreamer`, so that any version can run it: PYTHONPATH chooses the version. The
Writes form a fixed sequence of steps, and each run commits some consecutive steps. In each step
every series gets one tick. Then each of three streams gets one decision about every series, made
from that tick and all earlier ones. The verdict of a decision needs ticks of later steps, so when a
run ends, the decisions of its last steps have no verdict yet.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column, column
from midstreamer.domain.specification import Measure, Scale, Specification, Transform
from midstreamer.market.backtest import Points, Walk
from midstreamer.protocol.frames import Write
from midstreamer.store.postgres import PostgresStore
from midstreamer.sync import quota
from midstreamer.sync.commit import Committer

try:
    from midstreamer.sync.write_parts import Given
except ImportError:  # the previous version of Midstreamer has the module under this name:
    from midstreamer.sync.parts import Given  # type: ignore[import-not-found,no-redef]

HOUR = 3_600_000_000
HISTORY, BREAK, END = 150, 260, 300
"""Numbers of three steps.

`HISTORY` is the first step with decisions. At `BREAK` another version of the program takes over.
`END` is one more than the number of the last step.
"""
SERIES = 3
VOID_STEP = END - 1
"""Step at which one series has a price of zero, which has no logarithm.

Sync gives a void verdict to each decision whose outcome needs this price, and that raises the
version of the state. `Walk` computes the decisions beforehand and gives no verdict in this case, so
its versions would be too low from here on. Therefore this step is the last and has no decisions.
"""


def _specification(**fields: object) -> Specification:
    usual: dict[str, object] = {"window": 12, "horizon": 3, "neighbours": 8, "band": 2, "grid": 2}
    return Specification("story", **usual | fields)  # type: ignore[arg-type]


SPECIFICATIONS = (
    _specification(),
    _specification(horizon=2, transform=Transform.IDENTITY, scale=Scale.DEVIATION, target=0.6),
    _specification(horizon=5, measure=Measure.LCSS, epsilon=0.25),
)


def universe() -> dict[str, Points]:
    """Noisy waves from fixed seeds, with an hour between ticks."""
    series = {}
    times = np.arange(1, END + 1) * HOUR
    for number in range(SERIES):
        noise = np.random.default_rng(number).standard_normal(END)
        values = 100.0 + 20.0 * np.sin(np.arange(END) * (2 * np.pi / 24) + number) + noise
        if number == 0:
            values[VOID_STEP] = 0.0
        series[f"story/{number:02d}"] = Points(times, values)
    return series


def writes() -> list[list[Write]]:
    """Return the Writes of each step; the first step holds the whole history."""
    points = universe()
    decided: dict[int, list[Decision]] = defaultdict(list)
    for specification in SPECIFICATIONS:
        for event in Walk(points, specification, start=(HISTORY + 1) * HOUR):
            if isinstance(event, Decision) and event.time <= VOID_STEP * HOUR:
                decided[event.time // HOUR - 1].append(event)
    return [
        [_write(_ticks(points, 0, HISTORY))],
        *(
            [_write(_ticks(points, at, at + 1)), _write(decisions=decided[at])]
            for at in range(HISTORY, END)
        ),
    ]


def _ticks(points: dict[str, Points], start: int, stop: int) -> list[Column]:
    return [
        column(name, each.times[start:stop], each.values[start:stop])
        for name, each in points.items()
    ]


def _write(columns: Sequence[Column] = (), decisions: Sequence[Decision] = ()) -> Write:
    return Write(sequence=1, columns=tuple(columns), decisions=tuple(decisions))


def part(first: int, last: int) -> Iterator[Write]:
    """Return the Writes of the steps ``first`` to ``last - 1``.

    If ``first`` is 0, the Write of the whole history comes first.
    """
    begin, end = (max(0, at - HISTORY + 1) for at in (first, last))
    return (write for step in writes()[begin:end] for write in step)


async def commit(dsn: str, first: int, last: int) -> None:
    """Commit the steps ``first`` to ``last - 1``, with one Write in each transaction."""
    store = PostgresStore(dsn)
    await store.open()
    committer = Committer(
        store, reasoning, verdicts_max=4096, streams_memory=16, quotas=quota.DEFAULT
    )
    for sequence, write in enumerate(part(first, last), 1):
        numbered = msgspec.structs.replace(write, sequence=sequence)
        committed = await committer.commit([Given(("story", str(first)), numbered)])
        for outcome in committed.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
    await store.close()


if __name__ == "__main__":
    asyncio.run(commit(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
