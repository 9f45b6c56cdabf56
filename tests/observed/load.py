"""One client of an observed fleet, a process with metrics whose requests are partly refused.

    python -m tests.observed.load --identity client/u1 --certs DIR --addresses A,B \\
        --listen 127.0.0.1:9100 --appends-per-s 10 --matches-per-s 10

The client appends and matches as `tests.load.client_requests` does. It also looks up its decisions,
lists the members, and sends requests that must be refused: old ticks, unknown series, a foreign
universe, a drain, and frames that only a coordinator may send. A second client, with a valid
certificate but on no allowlist, connects so often that the log drops some of its lines. The only
line on stdout says that the history is stored. Signals of the operating system choose the values of
later ticks (`SIGNALS`): after SIGUSR1 the ticks contradict the confident decisions, after SIGUSR2
no value changes any more, and after SIGHUP the ticks are normal again. SIGTERM ends the process.
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
ABNORMAL_PER_S = 20.0
"""Calls of `Abnormal.request` per second.

The fleet ranks each confidence among the last 1,000 decisions of the stream. At this high rate, all
of these 1,000 are soon decisions that `Abnormal` requested. Earlier decisions, from normal ticks,
then no longer affect the rank.
"""
RECENT, SMALL = 1000, 0.1
"""`RECENT`: `Abnormal` compares a confidence with the confidences of at most this many decisions.

`SMALL`: a change of a series that lies inside the interval of every decision, in units of the
decision's scale.
"""
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


class Outcomes(Enum):
    """How the values of the client's new ticks are chosen."""

    NORMAL = "the series go on as before"
    OPPOSITE = "the ticks contradict the confident decisions"
    UNCHANGED = "each tick repeats the last value of its series"


SIGNALS = {
    signal.SIGHUP: Outcomes.NORMAL,
    signal.SIGUSR1: Outcomes.OPPOSITE,
    signal.SIGUSR2: Outcomes.UNCHANGED,
}


class Abnormal:
    """Sends a match, and then ticks that depend on the decision.

    With `Outcomes.UNCHANGED` the ticks repeat the last value. With `Outcomes.OPPOSITE` the ticks
    depend on the decision. A decision is confident if it has at least the median confidence of
    recent decisions. After a confident decision, the ticks lie outside the decision's interval, on
    the side opposite to its forecast. After any other decision, the ticks make its forecast come
    true, so that the stream goes on making confident decisions. Milder contradictions have no
    lasting effect, because the stream learns to follow them.
    """

    def __init__(self, client: AsyncClient, lanes: Sequence[Lane]) -> None:
        self._client = client
        self._free = deque(lanes)
        self._confidences: deque[float] = deque([0.5], maxlen=RECENT)

    async def request(self, outcomes: Outcomes) -> None:
        """Match a series that no other call uses now, and append ticks with these outcomes."""
        if not self._free:
            return
        lane = self._free.popleft()
        try:
            end = lane.count - 1
            values = lane.values[end + 1 - WANTED.window : end + 1]
            decision = await self._client.match(lane.name, time_at(end), values, WANTED)
            coming = slice(lane.count, lane.count + TICKS)
            if outcomes is Outcomes.UNCHANGED:
                lane.values[coming] = lane.values[end]
            else:
                lane.values[coming] = self._opposite(decision)
            await self._client.append(lane.ticks(TICKS))
            lane.count += TICKS
        except MidstreamerError as error:
            log.warning("load.failed", error=f"{error.code}: {error}")
        finally:
            self._free.append(lane)

    def _opposite(self, decision: Decision) -> float:
        """Return the value of the next ticks.

        It contradicts the decision if the decision is confident. Otherwise it makes the decision's
        forecast come true.
        """
        is_confident = decision.confidence >= statistics.median(self._confidences)
        self._confidences.append(decision.confidence)
        reached = decision.last + change(decision, comes_true=not is_confident)
        return reached if abs(reached) < LARGE else START


def change(decision: Decision, *, comes_true: bool) -> float:
    """Return a change of the series that makes the decision's forecast come true, or refutes it.

    A change that makes the forecast come true is small and has the forecast direction. A change
    that refutes the forecast has the other direction and goes beyond the end of the interval.
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
        abnormal = Abnormal(client, load.lanes)
        outcomes = Outcomes.NORMAL

        def choose(chosen: Outcomes) -> None:
            nonlocal outcomes
            outcomes = chosen

        for number, chosen in SIGNALS.items():
            loop.add_signal_handler(number, choose, chosen)

        def normally(ask: Callable[[float], Awaitable[None]]) -> Callable[[float], Awaitable[None]]:
            async def ask_then(due_s: float) -> None:
                if outcomes is Outcomes.NORMAL:
                    await ask(due_s)

            return ask_then

        async def abnormally(_due_s: float) -> None:
            if outcomes is not Outcomes.NORMAL:
                await abnormal.request(outcomes)

        say({"ready": True})
        async with asyncio.TaskGroup() as group:
            appends, matches = normally(load.append), normally(load.match)
            group.create_task(at_rate(appends, arguments.appends_per_s, stop))
            group.create_task(at_rate(matches, arguments.matches_per_s, stop))
            group.create_task(at_rate(abnormally, ABNORMAL_PER_S, stop))
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
