"""One client of an observed fleet; it exports metrics, and some of its requests are refused.

    python -m tests.observed.load --identity client/u1 --certs DIR --addresses A,B \\
        --listen 127.0.0.1:9100 --appends-per-s 10 --matches-per-s 10

The client appends and matches as `tests.load.client_requests` does. It also looks up its decisions,
lists the members, and sends requests that must be refused: old ticks, unknown series, a foreign
universe, a drain, and frames that only a coordinator may send. A second client, with a valid
certificate but on no allowlist, connects so often that the log drops some of its lines. The only
line on stdout says that the history is stored. Signals of the operating system choose the values of
later ticks (`Refuted`): after SIGUSR1 the ticks contradict the confident decisions, after SIGUSR2
all decisions, and after SIGHUP none. SIGTERM ends the process.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any

import msgspec

from midstreamer import AsyncClient, Tick
from midstreamer.cli import exit_with_parent, peer_credentials
from midstreamer.cli.local_fleet import TRUST_DOMAIN
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import health
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.runtime.peer import dial
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Carrier
from tests.load.client_requests import (
    HISTORY,
    TICKS,
    UNIVERSE,
    WANTED,
    Lane,
    Load,
    at_rate,
    say,
    time_at,
)

LOOKUPS_PER_S, SURVEYS_PER_S, REFUSALS_PER_S = 2.0, 0.5, 2.0
STRANGERS_PER_S, INTRUDERS_PER_S = 2.0, 0.5
STRANGER = "client/stranger"
STRANGER_S = 1.0
FOREIGN = "foreign"
AGAINST_PER_S = 20.0
"""Calls of `Against.contradict` per second.

A confidence is a rank among the last 1,000 decisions of a stream. The rate is high, so that soon
all of these are decisions that `Against` requested.
"""
RECENT, SMALL = 1000, 0.1
"""`RECENT`: the number of recent decisions with which `Against` compares a confidence. `SMALL`: a
change that lies inside every interval, in units of the decision's scale."""
NEW_STREAM = msgspec.structs.replace(WANTED, horizon=TICKS - 1)
"""The specification of the decisions of which all are contradicted. These decisions have a learning
stream of their own, so that the stream of the load keeps its licence meanwhile."""
START, LARGE = 100.0, 1e9
"""A series that goes beyond the value `LARGE` or `-LARGE` begins again at the value `START`."""
log = logs.get(__name__)


async def carrier_of(identity: str, certs: str) -> Carrier:
    """Return a peer's carrier; the peer's certificate is in the folder ``certs``."""
    settings = SecuritySettings(directory=certs, trust_domain=TRUST_DOMAIN)
    me = peer_credentials.named(identity, TRUST_DOMAIN)
    return await asyncio.to_thread(peer_credentials.carrier, me, settings, LimitSettings())


class Asking:
    """Sends requests other than appends and matches: lookups, surveys, and forbidden requests."""

    def __init__(self, client: AsyncClient, arguments: argparse.Namespace) -> None:
        self._client, self._arguments = client, arguments
        self._decided: deque[bytes] = deque(maxlen=100)
        self._turn = 0

    def heard(self, words: dict[str, Any]) -> None:
        """Keep the ids of decisions, and log failed requests."""
        if "decision" in words:
            self._decided.append(bytes.fromhex(words["decision"][0]))
        elif words.get("error"):
            log.warning("load.failed", what=words["what"], error=words["error"])

    async def lookup(self, _due_s: float) -> None:
        """Look up the newest decision."""
        if self._decided:
            await self._told(self._client.lookup([self._decided.pop()]))

    async def survey(self, _due_s: float) -> None:
        """Request the list of members."""
        await self._told(self._client.members())

    async def refused(self, _due_s: float) -> None:
        """Send a request that the fleet must refuse: at each call the next of four kinds."""
        name = self._arguments.identity.partition("/")[2]
        old = [Tick(f"{UNIVERSE}/{name}-00", time_at(0) - 1, 1.0)]
        foreign = [Tick(f"{FOREIGN}/a", time_at(0), 1.0)]
        values = [float(number) for number in range(WANTED.window)]
        asked = (
            lambda: self._client.append(old),
            lambda: self._client.append(foreign),
            lambda: self._client.match(f"{UNIVERSE}/nobody", time_at(HISTORY), values, WANTED),
            lambda: self._client.drain("coordinator/c1"),
        )
        self._turn += 1
        try:
            await asked[self._turn % len(asked)]()
        except MidstreamerError as error:
            log.debug("load.refused", code=error.code)
        else:
            log.error("load.not_refused", turn=self._turn % len(asked))

    async def stranger(self, _due_s: float) -> None:
        """Connect as a client that has a valid certificate but is on no allowlist."""
        addresses = self._arguments.addresses.split(",")
        directory = self._arguments.certs
        connecting = AsyncClient.connect(
            addresses, directory=directory, identity=STRANGER, deadline_s=STRANGER_S
        )
        try:
            async with connecting as client:
                await client.members()
        except MidstreamerError as error:
            log.debug("load.refused", code=error.code)
        else:
            log.error("load.not_refused", identity=STRANGER)

    async def intrude(self, _due_s: float) -> None:
        """Send a frame that clients may not send, on a new link, which the coordinator closes."""
        address = self._arguments.addresses.partition(",")[0]
        search = frames.Search(specification=WANTED, windows=(), shards=())
        try:
            carrier = await carrier_of(self._arguments.identity, self._arguments.certs)
            peer = await dial(carrier, address, expect=Kind.COORDINATOR)
            try:
                await peer.ask(search, budget_s=STRANGER_S)
            finally:
                await peer.close()
        except MidstreamerError as error:
            log.debug("load.refused", code=error.code)

    async def _told(self, asking: Any) -> None:
        try:
            await asking
        except MidstreamerError as error:
            log.warning("load.failed", error=f"{error.code}: {error}")


class Refuted(Enum):
    """Which decisions the client's new ticks contradict, by the signal that chooses it."""

    NONE = signal.SIGHUP
    CONFIDENT = signal.SIGUSR1
    """Decisions with at least the median confidence of recent decisions."""
    ALL = signal.SIGUSR2


class Against:
    """Sends a match, and then ticks that contradict the decision.

    The ticks lie beyond its interval, on the side that is opposite to its forecast. Milder
    contradictions have no lasting effect, because the stream learns to follow them.

    If only confident decisions are contradicted, the forecasts of the other decisions come true. So
    the stream goes on making confident decisions, until it loses its licence. If all are
    contradicted, the intervals contain far too few outcomes, until they have become very wide.
    """

    def __init__(self, client: AsyncClient, lanes: Sequence[Lane]) -> None:
        self._client = client
        self._free = deque(lanes)
        self._confidences: deque[float] = deque([0.5], maxlen=RECENT)

    async def contradict(self, refuted: Refuted) -> None:
        """Match a series that no other call uses now; append ticks against the decision.

        If the decision is not to be contradicted, append ticks that make it come true.
        """
        if not self._free:
            return
        lane = self._free.popleft()
        try:
            end = lane.count - 1
            values = lane.values[end + 1 - WANTED.window : end + 1]
            wanted = NEW_STREAM if refuted is Refuted.ALL else WANTED
            decision = await self._client.match(lane.name, time_at(end), values, wanted)
            comes_true = not self._is_confident(decision) and refuted is Refuted.CONFIDENT
            coming = slice(lane.count, lane.count + TICKS)
            reached = decision.last + change(decision, comes_true=comes_true)
            lane.values[coming] = reached if abs(reached) < LARGE else START
            await self._client.append(lane.ticks(TICKS))
            lane.count += TICKS
        except MidstreamerError as error:
            log.warning("load.failed", error=f"{error.code}: {error}")
        finally:
            self._free.append(lane)

    def _is_confident(self, decision: Decision) -> bool:
        """Return whether a decision has at least the median confidence; remember the confidence."""
        median = statistics.median(self._confidences)
        self._confidences.append(decision.confidence)
        return decision.confidence >= median


def change(decision: Decision, *, comes_true: bool) -> float:
    """Return a change of the series that makes the decision's forecast come true, or refutes it.

    A change that makes it come true is small and in the forecast direction. A change that refutes
    it has the other direction and goes beyond the end of the interval.
    """
    rises = (decision.probability >= 0.5) == comes_true
    edge = decision.high if rises else decision.low
    beyond = abs(edge) if math.isfinite(edge) and not comes_true else 0.0
    # A flat window has no scale: use 1, because a change of zero would keep the series flat.
    size = beyond + (SMALL if comes_true else 1.0) * (decision.scale or 1.0)
    return size if rises else -size


async def run(arguments: argparse.Namespace) -> None:
    """Store the history, report that on stdout, and send requests until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    connecting = AsyncClient.connect(
        arguments.addresses.split(","), directory=arguments.certs, identity=arguments.identity
    )
    async with (
        health.served(arguments.listen, health.Checks(ready=health.well)),
        connecting as client,
    ):
        asking = Asking(client, arguments)
        load = Load(client, arguments.identity.partition("/")[2], asking.heard)
        await load.begin()
        against, refuted = Against(client, load.lanes), Refuted.NONE

        def choose(chosen: Refuted) -> None:
            nonlocal refuted
            refuted = chosen

        for chosen in Refuted:
            loop.add_signal_handler(chosen.value, choose, chosen)

        def usually(ask: Callable[[float], Awaitable[None]]) -> Callable[[float], Awaitable[None]]:
            async def ask_then(due_s: float) -> None:
                if refuted is Refuted.NONE:
                    await ask(due_s)

            return ask_then

        async def contradict(_due_s: float) -> None:
            if refuted is not Refuted.NONE:
                await against.contradict(refuted)

        say({"ready": True})
        async with asyncio.TaskGroup() as group:
            group.create_task(at_rate(usually(load.append), arguments.appends_per_s, stop))
            group.create_task(at_rate(usually(load.match), arguments.matches_per_s, stop))
            group.create_task(at_rate(contradict, AGAINST_PER_S, stop))
            group.create_task(at_rate(asking.lookup, LOOKUPS_PER_S, stop))
            group.create_task(at_rate(asking.survey, SURVEYS_PER_S, stop))
            group.create_task(at_rate(asking.refused, REFUSALS_PER_S, stop))
            if arguments.rogues:
                group.create_task(at_rate(asking.stranger, STRANGERS_PER_S, stop))
                group.create_task(at_rate(asking.intrude, INTRUDERS_PER_S, stop))


def main() -> None:
    """Read the arguments and run; end when the parent process ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.observed.load")
    for name in ("--identity", "--certs", "--addresses", "--listen"):
        parser.add_argument(name, required=True)
    for name in ("--appends-per-s", "--matches-per-s"):
        parser.add_argument(name, required=True, type=float)
    parser.add_argument(
        "--rogues", type=int, default=1, help="0: send nothing that must be refused"
    )
    exit_with_parent.follow(os.environ)
    logs.configure(json=False, level="info")  # logs go to stderr: `say` writes to stdout
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
