"""The load: one client sends requests to a fleet at a constant rate.  It may run anywhere.

    python -m tests.cluster.load --addresses 198.19.255.1:30740 --certs DIR --write load.jsonl
    python -m tests.cluster outside .venv/bin/python -m tests.cluster.load …

The load is an open loop: by default 50 match and 20 append requests a second, all durable, each
with a deadline of 30 s.  Each request starts at its planned time, even if earlier requests have not
ended.  DIR contains the client's certificate and trust.pem, as
`midstreamer certs issue client/ID --directory DIR` writes them.

The load writes one JSON object a line to stdout: {"ready": true, …} when its history is stored, one
object for each second, and {"ended": true, …}.  It ends at SIGTERM or SIGINT, or after --for-s
seconds.  The values of its series are limited; without --for-s, the load ends when nine tenths of
them are used.  Then it waits for the open requests.  --write names the output file for
`tests.cluster.disturbance_report`, which is written during the load.  The file contains all
requests, all retries, and all ticks and decisions that the fleet acknowledged.
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
from tests.load import client_requests
from tests.load.client_requests import Load, at_rate, say

MATCHES_PER_S, APPENDS_PER_S = 50.0, 20.0
DEADLINE_S = 30.0
RATE_MAX = 1000.0
SPARE = 0.9
"""A load plans to append only this share of the values that its series have.

The rest is a reserve: after a stall, some series have appended more values than others, and no
series may run out of values.
"""


@dataclass
class Meter:
    """Counts requests of the current second and of the whole load; callers pass the time."""

    began_s: float
    open: int = 0
    requests: int = 0
    failed: int = 0
    slowest_s: float = 0.0
    _second: list[tuple[float, bool]] = field(default_factory=list)
    """For each request that ended in this second: its latency in seconds, and whether it failed."""

    def ended(self, said: dict[str, Any]) -> None:
        """Count a request that has ended; `said` is its record (`tests.load.client_requests`)."""
        took_s, failed = said["end_s"] - said["due_s"], bool(said["error"])
        self.requests += 1
        self.failed += failed
        self.slowest_s = max(self.slowest_s, took_s)
        self._second.append((took_s, failed))

    def second(self, now_s: float) -> dict[str, Any]:
        """Return the figures of the requests since the last call, and begin a new second."""
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
    """Return for how many seconds a load can append at this rate until its values are used up."""
    ticks_per_s = appends_per_s * client_requests.TICKS / client_requests.SERIES
    left = client_requests.POINTS_MAX - client_requests.HISTORY
    return SPARE * left / ticks_per_s if ticks_per_s else float("inf")


class Driver:
    """Runs one load for a given time, or until `stop` is set.

    Meanwhile it writes the records of the load to a file, and prints figures each second.
    """

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
        """Send requests until `stop` is set or `for_s` is over; return when all have ended."""
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
        """Return the figures of the whole load."""
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
    """Store the history, run the load as the arguments say, and print the final figures."""
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
            say({"ready": True, "name": arguments.name, "series": client_requests.SERIES})
            await driver.run(arguments.matches_per_s, arguments.appends_per_s, arguments.for_s)
        say(driver.summary())


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "python -m tests.cluster.load", description=__doc__, formatter_class=shown
    )
    root.add_argument("--write", required=True, type=Path, help="output file, overwritten")
    root.add_argument("--matches-per-s", type=_rate, default=MATCHES_PER_S)
    root.add_argument("--appends-per-s", type=_rate, default=APPENDS_PER_S)
    root.add_argument(
        "--for-s",
        type=_seconds,
        default=float("inf"),
        help="seconds of load; default: until its series has no values left",
    )
    root.add_argument("--name", default="", help="name of its series; default: new")
    add_client_arguments(root)
    return root


def add_client_arguments(made: argparse.ArgumentParser) -> None:
    """Add the arguments of a client of a fleet to a parser."""
    made.add_argument("--addresses", required=True, type=_addresses, help="host:port,host:port")
    made.add_argument("--certs", required=True, type=Path, help="folder of certificates")
    made.add_argument("--identity", default="", help="client/ID, when the folder holds several")
    made.add_argument("--proxy", default="", help="HTTP proxy for wss:// addresses")
    made.add_argument("--deadline-s", type=_seconds, default=DEADLINE_S, help="for each request")


def _addresses(text: str) -> list[str]:
    found = [each.strip() for each in text.split(",") if each.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no address: give host:port,host:port")
    return found


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0 <= rate <= RATE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: give 0 to {RATE_MAX:g} a second")
    return rate


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give a number of seconds above 0")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments; end the process with a message when they are invalid."""
    root = parser()
    arguments = root.parse_args(words)
    if not arguments.matches_per_s + arguments.appends_per_s:
        root.error("--matches-per-s and --appends-per-s are both 0: no request would be sent")
    most_s = seconds_max(arguments.appends_per_s)
    if arguments.for_s == float("inf"):
        arguments.for_s = most_s
    if arguments.for_s > most_s:
        root.error(
            f"--for-s {arguments.for_s:g}: at {arguments.appends_per_s:g} appends a second the"
            f" values last for {most_s:.0f} s; lower --for-s or --appends-per-s"
        )
    own = arguments.identity.rpartition("/")[2] or "load"
    arguments.name = arguments.name or f"{own}-{secrets.token_hex(3)}"
    return arguments


def main() -> None:
    """Run a load; on a known error, print one message and end with exit code 2."""
    arguments = parsed()
    logs.configure(json=False, level="warning")  # to stderr; `say` writes to stdout
    try:
        asyncio.run(drive(arguments))
    except MidstreamerError as error:
        refuse(f"error[{error.code}]: {error.message}")
    except OSError as error:
        refuse(str(error))


def refuse(why: str) -> None:
    """Print the reason to stderr, and end the process with exit code 2."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {why}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
