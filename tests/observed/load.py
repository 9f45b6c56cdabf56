"""One client of an observed fleet, as a process with metrics: it asks, and is refused at times.

    python -m tests.observed.load --identity client/u1 --certs DIR --addresses A,B \\
        --listen 127.0.0.1:9100 --appends-per-s 10 --matches-per-s 10

It appends and matches as `tests.load.asking` does.  Beside that it looks up what was decided, asks
who is there, and asks for what it must not get: old ticks, unknown series, a foreign universe, a
drain; it sends what only a coordinator may send; and a stranger, who has a certificate and is on no
allowlist, knocks, so often that not every line about it is logged.  Its one line on stdout says
that the history is stored.  SIGUSR1 changes the world
that it tells of, SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections import deque
from typing import Any

import numpy as np

from midstreamer import AsyncClient, Tick
from midstreamer.cli import identities, parent
from midstreamer.cli.local import TRUST_DOMAIN
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime import health
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.runtime.peer import dial
from midstreamer.telemetry import logs
from tests.load.asking import HISTORY, UNIVERSE, WANTED, Load, at_rate, say, time_at

LOOKUPS_PER_S, SURVEYS_PER_S, REFUSALS_PER_S = 2.0, 0.5, 2.0
STRANGERS_PER_S, INTRUDERS_PER_S = 2.0, 0.5
STRANGER = "client/stranger"
STRANGER_S = 1.0
FOREIGN = "foreign"
DOUBLES_TICKS, GROWS_TICKS = 10.0, 400
"""Once the world has changed, its noise doubles with so many ticks of a series, up to a bound."""
log = logs.get(__name__)


class Asking:
    """What is asked beside appends and matches."""

    def __init__(self, client: AsyncClient, arguments: argparse.Namespace) -> None:
        self._client, self._arguments = client, arguments
        self._decided: deque[bytes] = deque(maxlen=100)
        self._turn = 0

    def heard(self, words: dict[str, Any]) -> None:
        """Keep what was decided, and log what failed."""
        if "decision" in words:
            self._decided.append(bytes.fromhex(words["decision"][0]))
        elif words.get("error"):
            log.warning("load.failed", what=words["what"], error=words["error"])

    async def lookup(self, _due_s: float) -> None:
        """Look up what was decided last."""
        if self._decided:
            await self._told(self._client.lookup([self._decided.pop()]))

    async def survey(self, _due_s: float) -> None:
        """Ask who is there."""
        await self._told(self._client.members())

    async def refused(self, _due_s: float) -> None:
        """Ask for one thing that is not to be had, another each time."""
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
        """Knock with a certificate that is good, and on no allowlist."""
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
        """Send a frame that a client may not send, on a link of its own, which ends by it."""
        settings = SecuritySettings(directory=self._arguments.certs, trust_domain=TRUST_DOMAIN)
        me = identities.named(self._arguments.identity, TRUST_DOMAIN)
        address = self._arguments.addresses.partition(",")[0]
        search = frames.Search(specification=WANTED, windows=(), shards=())
        try:
            carrier = await asyncio.to_thread(identities.carrier, me, settings, LimitSettings())
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


def changed(load: Load) -> None:
    """From here on the world is another: each tick is further from what history knows."""
    for lane in load.lanes:
        rest = len(lane.values) - lane.count
        growing = np.exp2(np.minimum(np.arange(rest), GROWS_TICKS) / DOUBLES_TICKS)
        dice = np.random.default_rng(list(lane.name.encode()))
        lane.values[lane.count :] = 100.0 + 20.0 * growing * dice.standard_normal(rest)


async def run(arguments: argparse.Namespace) -> None:
    """Store the history, say so, and ask until SIGTERM."""
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
        loop.add_signal_handler(signal.SIGUSR1, changed, load)
        say({"ready": True})
        async with asyncio.TaskGroup() as group:
            group.create_task(at_rate(load.append, arguments.appends_per_s, stop))
            group.create_task(at_rate(load.match, arguments.matches_per_s, stop))
            group.create_task(at_rate(asking.lookup, LOOKUPS_PER_S, stop))
            group.create_task(at_rate(asking.survey, SURVEYS_PER_S, stop))
            group.create_task(at_rate(asking.refused, REFUSALS_PER_S, stop))
            if arguments.rogues:
                group.create_task(at_rate(asking.stranger, STRANGERS_PER_S, stop))
                group.create_task(at_rate(asking.intrude, INTRUDERS_PER_S, stop))


def main() -> None:
    """Read the arguments and run; end with the process that started this one."""
    parser = argparse.ArgumentParser(prog="python -m tests.observed.load")
    for name in ("--identity", "--certs", "--addresses", "--listen"):
        parser.add_argument(name, required=True)
    for name in ("--appends-per-s", "--matches-per-s"):
        parser.add_argument(name, required=True, type=float)
    parser.add_argument("--rogues", type=int, default=1, help="0: nobody who may not knocks")
    parent.follow(os.environ)
    logs.configure(json=False, level="info")  # to stderr: stdout is for what `say` says
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
