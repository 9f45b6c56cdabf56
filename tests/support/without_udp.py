"""Runs a fleet in one network and clients in another; UDP is dropped in both during two periods.

    python -m tests.support.without_udp FOLDER    in its own namespace, see `networks.own`

The program makes no assertions: it writes what it saw to ``FOLDER/seen.json``, with times of the
monotonic clock. Appends and matches start when they are due, even if earlier requests are still
open (an open loop).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from midstreamer import AsyncClient
from midstreamer.cli import peer_credentials, state_folder
from midstreamer.cli.local_fleet import SYNC, TRUST_DOMAIN, LocalFleet, free_ports
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.identity import Identity
from midstreamer.telemetry import logs
from tests.load.client_requests import TICKS, Load, at_rate, say
from tests.support import networks

PER_S = 20.0
"""Number of appends per second; as many matches are sent per second."""
DEADLINE_S = 30.0
CALM_S = 3.0
DROPPED_S, BETWEEN_S, AFTER_S = 10.0, 25.0, 20.0
"""Seconds for which UDP is dropped, then between the two drops, then after the last drop."""
LATE_AFTER_S = 3.0
"""Seconds from the begin of the second drop until the process of the client `late` starts.

The process dials about a second later, because it first imports its modules.
"""
DROPS = 2
LOOK_S = 0.05
END_S = 15.0
COORDINATORS = ("c1", "c2")
CLIENTS = ("steady", "late")
MOVED = re.compile(r"session\.moves.*\bby\W+(\w+)")


@dataclass
class Seen:
    """What happened in a run of the scenario, and what its clients reported."""

    drops: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of each period in which datagrams were dropped."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    retries: list[dict[str, Any]] = field(default_factory=list)
    carriers: list[tuple[float, list[str]]] = field(default_factory=list)
    """For each change of carrier in client "steady": the time, and the carrier of each link."""
    late: dict[str, Any] = field(default_factory=dict)
    moves: dict[str, list[str]] = field(default_factory=dict)
    """For each process, by the name of its log: the carriers to which its links moved, in order."""
    ended: list[str] = field(default_factory=list)
    """Clients and processes that ended or restarted unexpectedly."""

    def take(self, report: dict[str, Any]) -> None:
        """Add one line that a client reported."""
        if "what" in report:
            self.requests.append(report)
        elif "retry" in report:
            self.retries.append(report)
        elif "carriers" in report:
            self.carriers.append((report["at_s"], report["carriers"]))
        elif "late_s" in report:
            self.late = report


class Fleet(LocalFleet):
    """One sync, two coordinators and two agents; clients of the second network can connect too."""

    coordinators: tuple[str, ...] = ()

    def _members(self) -> list[Identity]:
        more = [f"coordinator/{COORDINATORS[1]}", *(f"client/{name}" for name in CLIENTS)]
        return [*super()._members(), *(peer_credentials.named(name, TRUST_DOMAIN) for name in more)]

    def _plan(self, dsn: str) -> None:
        # Nothing else uses this network, so a port that is free on loopback is free everywhere.
        servers = 1 + len(COORDINATORS)
        ports = free_ports(2 * servers + self.settings.agents)
        sync, *coordinators = (f"quic+wss://{networks.HERE}:{port}" for port in ports[:servers])
        self.coordinators = tuple(coordinators)
        self.coordinator = coordinators[0]
        health = ports[servers:]
        shared = {
            "MIDSTREAMER_SECURITY__DIRECTORY": str(self.state.certs),
            "MIDSTREAMER_SECURITY__TRUST_DOMAIN": TRUST_DOMAIN,
        }
        self._add("sync", "sync", health.pop(), shared, id=SYNC, listen=sync, dsn=dsn)
        for name, address in zip(COORDINATORS, coordinators, strict=True):
            spool = str(self.state.spool / name)
            own = {"id": name, "listen": address, "sync": sync, "spool_dir": spool}
            self._add(f"coordinator-{name}", "coordinator", health.pop(), shared, **own)
        for name in self._agent_ids():
            self._add(f"agent-{name}", "agent", health.pop(), shared,
                      id=name, sync=sync, threads="1")  # fmt: skip


async def run(folder: Path) -> Seen:
    """Start the fleet and the clients, drop UDP twice, and return everything that was recorded."""
    seen, news = Seen(), list[str]()
    with networks.joined() as network, state_folder.held(folder / "state") as place:
        fleet = Fleet(place, RunSettings(agents=2), config_file=None, news=news.append)
        try:
            async with fleet:
                async with _client("steady", network, fleet, seen):
                    await asyncio.sleep(CALM_S)
                    for number in range(DROPS):
                        last = number == DROPS - 1
                        await _dropped(network, fleet, seen, late=last)
                        await asyncio.sleep(AFTER_S if last else BETWEEN_S)
                seen.ended += [f"{each.name}, {each.restarts} times"
                               for each in fleet.children if each.restarts]  # fmt: skip
            seen.moves = {path.stem: MOVED.findall(path.read_text("utf-8"))
                          for path in sorted(place.logs.glob("*.log"))}  # fmt: skip
        finally:
            await fleet.server.erase()
    return seen


async def _dropped(network: networks.Joined, fleet: Fleet, seen: Seen, *, late: bool) -> None:
    """Drop UDP for `DROPPED_S` seconds.

    If ``late`` is true, start the client with the name "late" during this time.
    """
    begin_s = time.monotonic()
    network.drop_udp()
    # The period counts from here, not from `begin_s`: adding the rules can take a second.
    dropped_s = time.monotonic()
    try:
        if late:
            await asyncio.sleep(LATE_AFTER_S)
            async with _client("late", network, fleet, seen):
                pass
        await asyncio.sleep(dropped_s + DROPPED_S - time.monotonic())
    finally:
        network.allow_udp()
    seen.drops.append((begin_s, time.monotonic()))


# --- clients ------------------------------------------------------------------------------------


@asynccontextmanager
async def _client(
    name: str, network: networks.Joined, fleet: Fleet, seen: Seen
) -> AsyncIterator[None]:
    """A client process in the second network.

    When the block ends, the client is told to stop, and has time to complete its open requests.
    """
    words = [sys.executable, "-m", __spec__.name, name, str(fleet.state.certs), *fleet.coordinators]
    with (fleet.state.logs / f"client-{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *network.there(*words), stdout=asyncio.subprocess.PIPE, stderr=log
        )
    ready = asyncio.Event()
    hearing = asyncio.create_task(_hear(process, ready, seen), name=f"client.{name}")
    try:
        await ready.wait()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(DEADLINE_S + END_S):
                await asyncio.wait({hearing})
                if code := await process.wait():
                    seen.ended.append(f"client {name} with {code}: {_end_of(Path(log.name))}")
        finally:
            hearing.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _hear(process: asyncio.subprocess.Process, ready: asyncio.Event, seen: Seen) -> None:
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            report = json.loads(line)
            seen.take(report)
            if report.get("ready"):
                ready.set()
    finally:
        # Set the event also if the process failed before it was ready: `_client` waits for it.
        ready.set()


def _end_of(path: Path) -> str:
    return " | ".join(path.read_text("utf-8", errors="replace").splitlines()[-3:])


def _links(client: AsyncClient) -> list[str]:
    """Return the carrier of every link of a client; ``none`` where no link is open."""
    peers = [kept.session.peer for kept in client._links._kept.values()]
    return ["none" if peer is None else str(peer.scheme) for peer in peers]


async def steady(client: AsyncClient, stop: asyncio.Event) -> None:
    """Send requests at a fixed rate until ``stop``, and report every change of carrier."""
    load = Load(client, "steady", say)
    await load.begin()
    say({"ready": True})
    async with asyncio.TaskGroup() as group:
        group.create_task(at_rate(load.append, PER_S, stop))
        group.create_task(at_rate(load.match, PER_S, stop))
        reported: list[str] = []
        while not stop.is_set():
            if (links := _links(client)) != reported:
                say({"at_s": time.monotonic(), "carriers": (reported := links)})
            await asyncio.sleep(LOOK_S)


async def late(client: AsyncClient, stop: asyncio.Event) -> None:
    """Append once with the new client, and report the seconds until the answer."""
    load = Load(client, "late", lambda _: None)
    began_s = time.monotonic()
    await client.append(load.lanes[0].ticks(TICKS))
    say({"late_s": time.monotonic() - began_s, "by": _links(client), "ready": True})
    await stop.wait()


def main() -> None:
    """Run the whole scenario, or only one client when the arguments name a client."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("what", help="the folder for the result, or the name of a client")
    parser.add_argument("certs", nargs="?", default="")
    parser.add_argument("addresses", nargs="*")
    arguments = parser.parse_args()
    logs.configure(json=False, level="info")  # to stderr
    if arguments.what in CLIENTS:
        asyncio.run(_as_client(arguments))
    else:
        folder = Path(arguments.what)
        seen = asyncio.run(_until_told(folder))
        (folder / "seen.json").write_text(json.dumps(asdict(seen)), "utf-8")


async def _as_client(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    part = {"steady": steady, "late": late}[arguments.what]
    async with AsyncClient.connect(
        arguments.addresses,
        directory=arguments.certs,
        identity=f"client/{arguments.what}",
        deadline_s=DEADLINE_S,
    ) as client:
        await part(client, stop)


async def _until_told(folder: Path) -> Seen:
    """Run the scenario; on SIGTERM end every process that the scenario started."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(folder)


if __name__ == "__main__":
    main()
