"""What searches cost that nobody waits for: ``python -m benchmarks.abandoned``.

One agent in this process, with a sync and a coordinator over the memory carrier, holds some series.
Searches are timed; then as many as asked for are abandoned when half of their time has passed, by
cancelling the task that answers, as a `Cancel` does.  By turns with as many that run to their end,
as they did when an agent was not told that its asker had gone.

What is printed is the processor time of this process for each way, the ratio (the median of the
turns), and at which share of their time the searches were abandoned: timers are late.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import time
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np

from midstreamer.agent.service import AgentService
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column
from midstreamer.domain.shard import Shard
from midstreamer.domain.specification import Measure
from midstreamer.protocol.frames import Search
from midstreamer.runtime.peer import Peer
from tests.support.fleet import a_specification, a_universe, a_window, append, eventually, running

SERIES, POINTS = 4, 8192
WINDOW, BAND = 512, 60
QUERIES = 8
BUDGET_S = 60.0
TURNS = 5
TIMER_S = 0.0005
"""How late the loop's timers are, about: waited less."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Seconds of processor time, one for each turn."""

    measure: str
    searches: int
    usual_ms: float
    """Of one search, as its caller sees it."""
    share: float
    """Of its usual time, after which a search was abandoned."""
    whole_s: list[float]
    abandoned_s: list[float]

    @property
    def ratio(self) -> float:
        """Of abandoned searches to whole ones: the median of the turns."""
        pairs = zip(self.abandoned_s, self.whole_s, strict=True)
        return statistics.median(short / whole for short, whole in pairs)


class _Asker:
    """Asks one agent the same searches again and again."""

    def __init__(self, service: AgentService, requests: list[Search]) -> None:
        self._service, self._requests = service, requests
        self.usual_s: dict[int, float] = {}
        self.shares: list[float] = []

    def _ask(self, number: int) -> asyncio.Future[object]:
        coordinator = identity.make("local", Kind.COORDINATOR, "c1")
        peer = cast(Peer, SimpleNamespace(identity=coordinator))
        request = self._requests[number % len(self._requests)]
        return asyncio.ensure_future(self._service._handle(peer, request))  # noqa: SLF001 - as its links do

    async def whole_s(self, searches: int) -> float:
        """Processor time of so many that run to their end; learns the usual time of each."""
        taken: dict[int, list[float]] = {}
        begun = time.process_time()
        for number in range(searches):
            asked_at = time.perf_counter()
            await self._ask(number)
            took_s = time.perf_counter() - asked_at
            taken.setdefault(number % len(self._requests), []).append(took_s)
        used_s = time.process_time() - begun
        self.usual_s |= {which: statistics.median(times) for which, times in taken.items()}
        return used_s

    async def abandoned_s(self, searches: int) -> float:
        """Processor time of so many that are abandoned half-way, until the thread is free again."""
        begun = time.process_time()
        for number in range(searches):
            usual_s, asked_at = self.usual_s[number % len(self._requests)], time.perf_counter()
            asking = self._ask(number)
            await asyncio.wait([asking], timeout=usual_s / 2 - TIMER_S)
            self.shares.append((time.perf_counter() - asked_at) / usual_s)
            asking.cancel()
            await asyncio.wait([asking])
            pool = self._service._pool  # noqa: SLF001 - free when the search has left it
            await asyncio.get_running_loop().run_in_executor(pool, int)
        return time.process_time() - begun


def _requests(measure: Measure, universe: list[Column], shards: tuple[Shard, ...]) -> list[Search]:
    """Noise is near nothing: bounds rule out little, and searches cost about the same."""
    made = a_specification(window=WINDOW, band=BAND, grid=1, measure=measure, epsilon=0.05)
    latest, dice = a_window(universe[0], POINTS - 1, WINDOW), np.random.default_rng(1)
    noise = [dice.normal(size=WINDOW).tobytes() for _ in range(QUERIES)]
    return [
        Search(
            specification=made,
            windows=(msgspec.structs.replace(latest, values=values),),
            shards=shards,
            budget_s=BUDGET_S,
        )
        for values in noise
    ]


async def measured(measure: Measure, searches: int) -> Figures:
    """Searches by one measure, both ways by turns."""
    universe = a_universe(SERIES, POINTS)
    async with running(agents=("a1",), shard_points=POINTS) as fleet:
        await append(await fleet.client(), *universe)
        service = fleet.agent("a1")
        await eventually(lambda: len(service.holdings) == SERIES)
        asker = _Asker(service, _requests(measure, universe, service.holdings))
        await asker.whole_s(QUERIES)  # the first ones prepare the shards
        whole, abandoned, each = [], [], -(-searches // TURNS)
        for _ in range(TURNS):
            whole.append(await asker.whole_s(each))
            abandoned.append(await asker.abandoned_s(each))
    usual_ms = 1000.0 * statistics.median(asker.usual_s.values())
    share = statistics.median(asker.shares)
    return Figures(measure.value, each * TURNS, usual_ms, share, whole, abandoned)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one object for each measure")
    given = parser.parse_args()
    for measure in Measure:
        made = asyncio.run(measured(measure, given.searches))
        if given.json:
            print(json.dumps(dataclasses.asdict(made) | {"ratio": made.ratio}))
            continue
        print(
            f"{made.measure}: {made.searches} searches of {made.usual_ms:.0f} ms;"
            f" to the end {sum(made.whole_s):.2f} s of processor time, abandoned at"
            f" {100.0 * made.share:.1f} % {sum(made.abandoned_s):.2f} s: x{made.ratio:.3f}"
        )


if __name__ == "__main__":
    main()
