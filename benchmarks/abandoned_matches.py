"""Measure the cost of matches that a client abandons: ``python -m benchmarks.abandoned_matches``.

A whole fleet runs in this process over the memory carrier: sync, a coordinator, and an agent with
some series.  First the client measures how long each match usually takes.  Then it abandons each
match after half of this time.  This is measured in several turns.  In the first half of a turn the
client sends nothing when it abandons a match, like a client of an earlier version.  The fleet then
computes each match to its end.  In the second half of a turn the client sends `Cancel`.

The output has two processor times of this process, with and without `Cancel`.  Each counts until
the fleet is idle again.  The output also has their ratio (median over the turns).  Timers are
inexact, so a match is not abandoned after exactly half of its usual time; the output has the real
share (median).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import time

import msgspec
import numpy as np

from midstreamer.domain.series import Column
from midstreamer.domain.specification import Measure
from midstreamer.protocol import frames
from midstreamer.runtime.peer import Peer
from midstreamer.telemetry import logs
from tests.support.fleet import (
    Fleet,
    a_specification,
    a_universe,
    a_window,
    append,
    eventually,
    running,
)

SERIES, POINTS = 4, 8192
WINDOW, BAND = 512, 60
QUERIES = 8
BUDGET_S = 60.0
TURNS = 5
"""Number of turns; each turn measures once with `Cancel` and once without."""
TIMER_S = 0.0005
"""Typical delay of the event loop's timers in seconds.

The client sets its timer so much earlier, in order to abandon a match at the planned time.
"""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Results for one distance measure.

    The measurement is repeated `TURNS` times; each repetition is a turn.  ``whole_s`` (without
    `Cancel`) and ``abandoned_s`` (with `Cancel`) have the processor seconds of each turn.
    """

    measure: str
    searches: int
    usual_ms: float
    """Median time of a search that is not abandoned, in milliseconds, as its caller sees it."""
    share: float
    """Share of a search's usual time after which the client abandoned the search (median)."""
    whole_s: list[float]
    abandoned_s: list[float]

    @property
    def ratio(self) -> float:
        """Processor time with `Cancel` / processor time without `Cancel`, median over the turns."""
        pairs = zip(self.abandoned_s, self.whole_s, strict=True)
        return statistics.median(short / whole for short, whole in pairs)


class _Asker:
    """A client that sends the same matches again and again."""

    def __init__(self, fleet: Fleet, client: Peer, requests: list[frames.Match]) -> None:
        self._fleet, self._client, self._requests = fleet, client, requests
        self.usual_s: dict[int, float] = {}
        self.shares: list[float] = []

    def _request(self, number: int) -> frames.Match:
        return self._requests[number % len(self._requests)]

    async def learn(self, matches: int) -> None:
        """Send ``matches`` requests one by one, and note the usual time of each different request.

        The requests are repeated in turn.  The usual time of a request is its median.
        """
        taken: dict[int, list[float]] = {}
        for number in range(matches):
            asked_at = time.perf_counter()
            await self._client.ask(self._request(number), budget_s=BUDGET_S)
            took_s = time.perf_counter() - asked_at
            taken.setdefault(number % len(self._requests), []).append(took_s)
        self.usual_s |= {which: statistics.median(times) for which, times in taken.items()}

    async def abandoned_s(self, matches: int, *, told: bool) -> float:
        """Abandon each match half-way; return the processor seconds until the fleet is idle.

        ``told`` says whether the client sends `Cancel`.
        """
        begun = time.process_time()
        for number in range(matches):
            usual_s, asked_at = self.usual_s[number % len(self._requests)], time.perf_counter()
            asking = asyncio.ensure_future(
                self._client.ask(self._request(number), budget_s=BUDGET_S)
            )
            await asyncio.wait([asking], timeout=usual_s / 2 - TIMER_S)
            self.shares.append((time.perf_counter() - asked_at) / usual_s)
            if told:
                asking.cancel()
            await asyncio.wait([asking])
            await self._idle()
        return time.process_time() - begun

    async def _idle(self) -> None:
        """Wait until no search is in progress in the agent or its threads."""
        agent, coordinator = self._fleet.agent("a1"), self._fleet.coordinator()
        while agent._searches or coordinator._dispatcher._core.depth:  # noqa: ASYNC110, SLF001
            await asyncio.sleep(0.001)
        await asyncio.get_running_loop().run_in_executor(agent._pool, int)  # noqa: SLF001


def _requests(measure: Measure, universe: list[Column]) -> list[frames.Match]:
    """Return match requests with windows of noise.

    Lower bounds rule out few windows for noise, so all these requests take about the same time.
    """
    made = a_specification(window=WINDOW, band=BAND, grid=1, measure=measure, epsilon=0.05)
    latest, dice = a_window(universe[0], POINTS - 1, WINDOW), np.random.default_rng(1)
    noise = [dice.normal(size=WINDOW).tobytes() for _ in range(QUERIES)]
    windows = [msgspec.structs.replace(latest, values=values, series="") for values in noise]
    return [frames.Match(specification=made, windows=(each,), record=False) for each in windows]


async def measured(measure: Measure, matches: int) -> Figures:
    """Return the result for one measure of distance.

    Each of the `TURNS` turns measures abandoned matches without `Cancel`, and then with `Cancel`.
    """
    universe = a_universe(SERIES, POINTS)
    async with running(agents=("a1",), shard_points=POINTS) as fleet:
        client = await fleet.client()
        await append(client, *universe)
        await eventually(lambda: len(fleet.agent("a1").holdings) == SERIES)
        asker = _Asker(fleet, client, _requests(measure, universe))
        await asker.learn(QUERIES)  # the first searches prepare the shards
        whole, abandoned, each = [], [], -(-matches // TURNS)
        for _ in range(TURNS):
            await asker.learn(2 * QUERIES)
            whole.append(await asker.abandoned_s(each, told=False))
            abandoned.append(await asker.abandoned_s(each, told=True))
        await client.close()
    usual_ms = 1000.0 * statistics.median(asker.usual_s.values())
    share = statistics.median(asker.shares)
    return Figures(measure.value, each * TURNS, usual_ms, share, whole, abandoned)


def main() -> None:
    """Run the benchmark for each measure of distance, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print a JSON object per measure")
    given = parser.parse_args()
    logs.configure(json=False, level="error")
    for measure in Measure:
        made = asyncio.run(measured(measure, given.searches))
        if given.json:
            print(json.dumps(dataclasses.asdict(made) | {"ratio": made.ratio}))
            continue
        print(
            f"{made.measure}: {made.searches} matches of {made.usual_ms:.0f} ms, abandoned at"
            f" {100.0 * made.share:.1f} %: without Cancel {sum(made.whole_s):.2f} s of processor"
            f" time, with Cancel {sum(made.abandoned_s):.2f} s: x{made.ratio:.3f}"
        )


if __name__ == "__main__":
    main()
