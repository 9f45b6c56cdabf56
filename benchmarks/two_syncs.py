"""Compare one sync with two on one database: how soon a tick that is sent reaches every follower.

    make bench-syncs

Each sync runs in a process of its own, with its writer and its follower on links in memory.  In
alternating rounds one sync writes, then two syncs write.  Each writes at the same rate, at random
times from a seed.  A tick has arrived when the follower of every sync has received the position of
the tick in the change feed.  All processes use the same clock of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midstreamer.domain import identity, series
from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Tail, Write
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres import PostgresStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.telemetry import logs
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

ROUNDS = 5
WRITES = 100
RATE_PER_S = 20.0
RATIO_MAX = 2.0
"""With two syncs, a tick may take at most this many times as long as with one sync."""
POLLS = 2000
STEP = 1_000_000
BEGIN_S = 0.5
"""Seconds from the moment at which all processes are ready until the first write."""


# --- in a child process: one sync, its writer and its follower ----------------------------------


async def follow(peer: Peer, heard_s: dict[int, float], after: int) -> None:
    """Record the time at which each position of the change feed arrives at a follower."""
    async for page in peer.follow(Tail(after=after, states=False)):
        for position in range(after + 1, page.position + 1):
            heard_s[position] = time.time()
        after = page.position


async def one_sync(dsn: str, name: str, writes: int) -> dict[str, Any]:
    """Run one sync and write to it; return the times of sending and of receiving, by position.

    The process prints "ready", and reads the time of the first write from standard input.
    """
    network, ready = MemoryNetwork(), asyncio.Event()

    def carrier(kind: Kind) -> MemoryCarrier:
        return MemoryCarrier(network, identity.make("bench", kind, name))

    store = PostgresStore(dsn)
    service = SyncService(SyncSettings(listen="sync:0"), carrier(Kind.SYNC), store)
    running = asyncio.create_task(service.run(ready=ready))
    await ready.wait()
    peer = await peers.dial(carrier(Kind.COORDINATOR), service.address, expect=Kind.SYNC)
    heard_s: dict[int, float] = {}
    sent_s: dict[int, float] = {}
    following = asyncio.create_task(follow(peer, heard_s, await store.position()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    begin_s = float(await asyncio.to_thread(sys.stdin.readline))
    dice = random.Random(name)
    for at in range(writes):
        due_s = begin_s + (at + dice.random()) / RATE_PER_S
        await asyncio.sleep(max(0.0, due_s - time.time()))
        now_s = time.time()
        column = series.column(f"bench/{name}", [at * STEP], [float(at)])
        written = await peer.ask(Write(sequence=at + 1, columns=(column,)))
        sent_s[written.position] = now_s
    await asyncio.sleep(max(0.0, begin_s + WRITES / RATE_PER_S + 1.0 - time.time()))
    for task in (following, running):
        task.cancel()
    await asyncio.wait({following, running})
    return {"sent_s": sent_s, "heard_s": heard_s}


# --- rounds -------------------------------------------------------------------------------------


async def measured(dsn: str, names: Sequence[str]) -> list[float]:
    """Run these syncs; return for each write the milliseconds until every follower received it."""
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.two_syncs", "--one", dsn, name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for name in names
    ]
    for each in started:
        assert each.stdout is not None
        await each.stdout.readline()
    begin = f"{time.time() + BEGIN_S}\n".encode()
    told = [json.loads(out) for out, _ in
            await asyncio.gather(*(each.communicate(begin) for each in started))]  # fmt: skip
    return [
        1e3 * (max(one["heard_s"][position] for one in told) - sent_s)
        for each in told
        for position, sent_s in each["sent_s"].items()
    ]


async def poll_cost_ms(dsn: str) -> float:
    """Return the milliseconds that a query for the feed position takes; a sync sends 4 a second."""
    store = PostgresStore(dsn)
    await store.open()
    begin_s = time.perf_counter()
    for _ in range(POLLS):
        await store.position()
    await store.close()
    return 1e3 * (time.perf_counter() - begin_s) / POLLS


async def rounds(folder: Path) -> dict[str, Any]:
    """Measure one sync and two syncs alternately; return the median of each round."""
    server = EmbeddedServer(folder)
    dsn = await server.start()
    try:
        one, two = [], []
        for number in range(ROUNDS):
            one.append(statistics.median(await measured(dsn, [f"a{number}"])))
            two.append(statistics.median(await measured(dsn, [f"b{number}", f"c{number}"])))
        return {"one_ms": one, "two_ms": two, "poll_ms": await poll_cost_ms(dsn)}
    finally:
        await server.erase()


def main() -> int:
    """Measure and print; return 1 if two syncs take more than `RATIO_MAX` times as long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("DSN", "NAME"), help="internal: run one sync")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    logs.configure(json=False, level="error")
    if arguments.one:
        dsn, name = arguments.one
        times = asyncio.run(one_sync(dsn, name, WRITES))
        sys.stdout.write(json.dumps(times))
        return 0
    with tempfile.TemporaryDirectory(prefix="midstreamer-syncs-") as folder:
        results = asyncio.run(rounds(Path(folder)))
    one, two = statistics.median(results["one_ms"]), statistics.median(results["two_ms"])
    sys.stdout.write(
        f"append -> received by all followers, medians of {ROUNDS} alternating rounds:\n"
        f"  one sync writes   {one:.2f} ms   {[round(each, 2) for each in results['one_ms']]}\n"
        f"  two syncs write   {two:.2f} ms   {[round(each, 2) for each in results['two_ms']]}\n"
        f"  ratio {two / one:.2f} (at most {RATIO_MAX:g})\n"
        f"reading the position once: {results['poll_ms']:.3f} ms\n"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0 if two <= RATIO_MAX * one else 1


if __name__ == "__main__":
    sys.exit(main())
