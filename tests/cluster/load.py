"""The load driver: a client of a fleet that asks all the time, from wherever it is started.

    python -m tests.cluster.load --addresses 198.19.255.1:30740 --certs DIR --write load.jsonl
    python -m tests.cluster outside .venv/bin/python -m tests.cluster.load …

An open loop: 50 matches and 20 appends a second, all durable, each with 30 s until its deadline; a
request starts at its time whatever became of the others.  DIR holds the client's certificate and
`trust.pem`, as `midstreamer certs issue client/ID --directory DIR` writes them.

It writes one JSON object a line to stdout: `{"ready": true, …}` when its history is stored, one
for each second, and `{"ended": true, …}`.  SIGTERM or SIGINT ends it, or --for-s: then it waits
for the requests that are open.  --write names the file of all requests, repeated attempts and
acknowledged keys, for `tests.cluster.report`; it is written as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from midstreamer import AsyncClient
from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs
from tests.load import asking
from tests.load.asking import Load, at_rate, say

MATCHES_PER_S, APPENDS_PER_S = 50.0, 20.0
DEADLINE_S = 30.0
RATE_MAX = 1000.0
SPARE = 0.9
"""Share of a series' values that are planned for: after a stall some series are ahead of others."""


@dataclass
class Meter:
    """Requests of the current second and of all; it is told the time, and reads no clock."""

    began_s: float
    open: int = 0
    requests: int = 0
    failed: int = 0
    slowest_s: float = 0.0
    _second: list[tuple[float, bool]] = field(default_factory=list)
    """How long each request took that ended in this second, and whether it failed."""

    def ended(self, said: dict[str, Any]) -> None:
        """A request has ended, as `asking` tells it."""
        took_s, failed = said["end_s"] - said["due_s"], bool(said["error"])
        self.requests += 1
        self.failed += failed
        self.slowest_s = max(self.slowest_s, took_s)
        self._second.append((took_s, failed))

    def second(self, now_s: float) -> dict[str, Any]:
        """What is said of the time since this was last asked for."""
        ended, self._second = self._second, []
        return {
            "second": round(now_s - self.began_s),
            "requests": len(ended),
            "failed": sum(failed for _, failed in ended),
            "slowest_s": round(max((took_s for took_s, _ in ended), default=0.0), 3),
            "open": self.open,
            "failed_so_far": self.failed,
        }


def seconds_max(appends_per_s: float) -> float:
    """How long a load can go on at a rate before a series has no more values."""
    ticks_per_s = appends_per_s * asking.TICKS / asking.SERIES
    left = asking.POINTS_MAX - asking.HISTORY
    return SPARE * left / ticks_per_s if ticks_per_s else float("inf")


class Driver:
    """One load, what is told of it, and when it ends."""

    def __init__(self, client: AsyncClient, name: str, file: IO[str]) -> None:
        self._file = file
        self.stop = asyncio.Event()
        self.ticks = self.decisions = self.retries = 0
        self.load = Load(client, name, self._heard)
        self.meter = Meter(time.monotonic())

    def _heard(self, said: dict[str, Any]) -> None:
        self._file.write(json.dumps(said) + "\n")
        self.ticks += said["stored"][2] if "stored" in said else 0
        self.decisions += "decision" in said
        self.retries += "retry" in said
        if "what" in said:
            self.meter.ended(said)

    async def run(self, matches_per_s: float, appends_per_s: float, for_s: float) -> None:
        """Ask until told to stop; returns when all that was asked has ended."""
        self.meter = Meter(time.monotonic())
        rates = ((self.load.match, matches_per_s), (self.load.append, appends_per_s))
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell())
            ending = group.create_task(self._end_after(for_s))
            async with asyncio.TaskGroup() as asking_group:
                for ask, per_s in rates:
                    if per_s:
                        asking_group.create_task(at_rate(self._counted(ask), per_s, self.stop))
            telling.cancel()
            ending.cancel()

    def _counted(
        self, ask: Callable[[float], Awaitable[None]]
    ) -> Callable[[float], Awaitable[None]]:
        async def asked(due_s: float) -> None:
            self.meter.open += 1
            try:
                await ask(due_s)
            finally:
                self.meter.open -= 1

        return asked

    async def _end_after(self, for_s: float) -> None:
        await asyncio.sleep(for_s)
        self.stop.set()

    async def _tell(self) -> None:
        due_s = self.meter.began_s
        while True:
            due_s += 1.0
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            say(self.meter.second(time.monotonic()))
            self._file.flush()

    def summary(self) -> dict[str, Any]:
        """All of it in one line."""
        return {
            "ended": True,
            "requests": self.meter.requests,
            "failed": self.meter.failed,
            "slowest_s": round(self.meter.slowest_s, 3),
            "repeated_attempts": self.retries,
            "ticks": self.ticks,
            "decisions": self.decisions,
        }


async def drive(arguments: argparse.Namespace) -> None:
    """Store the history, say so, ask until told to stop, and sum up."""
    connecting = AsyncClient.connect(
        arguments.addresses,
        directory=arguments.certs,
        identity=arguments.identity,
        deadline_s=arguments.deadline_s,
        proxy=arguments.proxy,
    )
    with arguments.write.open("w", encoding="utf-8") as file:
        async with connecting as client:
            driver = Driver(client, arguments.name, file)
            await driver.load.begin()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, driver.stop.set)
            say({"ready": True, "name": arguments.name, "series": asking.SERIES})
            await driver.run(arguments.matches_per_s, arguments.appends_per_s, arguments.for_s)
        say(driver.summary())


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        "python -m tests.cluster.load", description=__doc__, formatter_class=shown
    )
    made.add_argument("--write", required=True, type=Path, help="file of records, replaced")
    made.add_argument("--matches-per-s", type=_rate, default=MATCHES_PER_S)
    made.add_argument("--appends-per-s", type=_rate, default=APPENDS_PER_S)
    made.add_argument("--for-s", type=_seconds, default=float("inf"), help="default: until SIGTERM")
    made.add_argument("--name", default="", help="of its series; default: one that is new")
    add_client_arguments(made)
    return made


def add_client_arguments(made: argparse.ArgumentParser) -> None:
    """What a client of a fleet needs."""
    made.add_argument("--addresses", required=True, type=_addresses, help="host:port,host:port")
    made.add_argument("--certs", required=True, type=Path, help="folder of certificate and trust")
    made.add_argument("--identity", default="", help="client/ID, when the folder holds several")
    made.add_argument("--proxy", default="", help="through which wss:// is dialled")
    made.add_argument("--deadline-s", type=_seconds, default=DEADLINE_S, help="of one request")


def _addresses(text: str) -> list[str]:
    found = [each.strip() for each in text.split(",") if each.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no address: write host:port,host:port")
    return found


def _rate(text: str) -> float:
    made = _number(text)
    if not 0 <= made <= RATE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: take 0 to {RATE_MAX:g} a second")
    return made


def _seconds(text: str) -> float:
    made = _number(text)
    if not made > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: take a number of seconds above 0")
    return made


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The arguments; ends the process with a message where they cannot be."""
    made = parser()
    arguments = made.parse_args(words)
    if not arguments.matches_per_s + arguments.appends_per_s:
        made.error("--matches-per-s and --appends-per-s are both 0: nothing would be asked")
    most_s = seconds_max(arguments.appends_per_s)
    if arguments.for_s == float("inf"):
        arguments.for_s = most_s
    if arguments.for_s > most_s:
        made.error(
            f"--for-s {arguments.for_s:g}: at {arguments.appends_per_s:g} appends a second there"
            f" are values for {most_s:.0f} s; take less of either"
        )
    own = arguments.identity.rpartition("/")[2] or "load"
    arguments.name = arguments.name or f"{own}-{secrets.token_hex(3)}"
    return arguments


def main() -> None:
    """Drive a load; a refusal is one message and exit code 2."""
    arguments = parsed()
    logs.configure(json=False, level="warning")  # to stderr: stdout is for what `say` says
    try:
        asyncio.run(drive(arguments))
    except MidstreamerError as error:
        refuse(f"error[{error.code}]: {error.message}")
    except OSError as error:
        refuse(str(error))


def refuse(why: str) -> None:
    """Say why, and end with exit code 2."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {why}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
