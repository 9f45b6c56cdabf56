"""A client of a rolling restart, as a process: appends and matches at a fixed rate.

    python -m tests.rolling.load --identity client/u1 --certs DIR --addresses A,B …

It writes one JSON object per line to stdout: first ``{"ready": true}``, when the history is stored;
then one for each request and each retried attempt. SIGTERM ends it when all open requests have
ended. Like `tests.load.client_requests` it imports only the SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import signal
from typing import Any

from midstreamer import AsyncClient
from midstreamer.telemetry import logs
from tests.load.client_requests import Load, at_rate, say

LINK_AGE_S = 5.0


def _link_age() -> dict[str, Any]:
    """Return the argument for the maximum age of links; empty if this version's SDK lacks it."""
    known = "link_age_s" in inspect.signature(AsyncClient.connect).parameters
    return {"link_age_s": LINK_AGE_S} if known else {}


async def run(arguments: argparse.Namespace) -> None:
    """Store the history, report that on stdout, and send requests until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connecting = AsyncClient.connect(
        arguments.addresses.split(","),
        directory=arguments.certs,
        identity=arguments.identity,
        deadline_s=arguments.deadline_s,
        **_link_age(),
    )
    async with connecting as client:
        load = Load(client, arguments.identity.partition("/")[2], say)
        await load.begin()
        say({"ready": True})
        async with asyncio.TaskGroup() as group:
            group.create_task(at_rate(load.append, arguments.appends_per_s, stop))
            group.create_task(at_rate(load.match, arguments.matches_per_s, stop))


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling.load")
    for name in ("--identity", "--certs", "--addresses"):
        parser.add_argument(name, required=True)
    for name in ("--appends-per-s", "--matches-per-s", "--deadline-s"):
        parser.add_argument(name, required=True, type=float)
    logs.configure(json=False, level="info")  # logs go to stderr: `say` writes to stdout
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
