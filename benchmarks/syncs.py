"""Two syncs on one database beside one: from sending a tick until followers everywhere have it.

    make bench-syncs

Each sync is a process of its own; so are its writer and its follower, on a link in memory.  By
turns one sync writes, then two do, each at the same rate and at the same moments, which is the
worst case: of each pair of commits one waits for the other.  A tick is everywhere when the follower
of each sync has heard its position.  Times are of the one clock of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
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
from midstreamer.store.embedded import EmbeddedServer
from midstreamer.store.postgres import PostgresStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.telemetry import logs
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

ROUNDS = 5
WRITES = 100
RATE_PER_S = 20.0
RATIO_MAX = 2.0
POLLS = 2000
STEP = 1_000_000


# --- one sync, in a process of its own ----------------------------------------------------------


async def follow(peer: Peer, heard_s: dict[int, float], after: int) -> None:
    """Note when each position was heard."""
    async for page in peer.follow(Tail(after=after, states=False)):
        for position in range(after + 1, page.position + 1):
            heard_s[position] = time.time()
        after = page.position


async def one_sync(dsn: str, name: str, begin_s: float, writes: int) -> dict[str, Any]:
    """Write at a fixed rate from a given time on; when each was sent, and each position heard."""
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
    for at in range(writes):
        await asyncio.sleep(max(0.0, begin_s + at / RATE_PER_S - time.time()))
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
    """Milliseconds from sending until everywhere, of every write of these syncs together."""
    begin_s = time.time() + 2.0
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.syncs", "--one", dsn, name, str(begin_s)),
            stdout=asyncio.subprocess.PIPE,
        )
        for name in names
    ]
    told = [json.loads((await each.communicate())[0]) for each in started]
    return [
        1e3 * (max(one["heard_s"][position] for one in told) - sent_s)
        for each in told
        for position, sent_s in each["sent_s"].items()
    ]


async def poll_cost_ms(dsn: str) -> float:
    """Of reading the position once: what is done four times a second."""
    store = PostgresStore(dsn)
    await store.open()
    begin_s = time.perf_counter()
    for _ in range(POLLS):
        await store.position()
    await store.close()
    return 1e3 * (time.perf_counter() - begin_s) / POLLS


async def rounds(folder: Path) -> dict[str, Any]:
    """Both by turns; the median of each round."""
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
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("DSN", "NAME", "BEGIN"), help="for itself")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    logs.configure(json=False, level="error")
    if arguments.one:
        dsn, name, begin_s = arguments.one
        told = asyncio.run(one_sync(dsn, name, float(begin_s), WRITES))
        sys.stdout.write(json.dumps(told))
        return 0
    with tempfile.TemporaryDirectory(prefix="midstreamer-syncs-") as folder:
        made = asyncio.run(rounds(Path(folder)))
    one, two = statistics.median(made["one_ms"]), statistics.median(made["two_ms"])
    sys.stdout.write(
        f"append -> heard by all followers, medians of {ROUNDS} rounds by turns:\n"
        f"  one sync writes   {one:.2f} ms   {[round(each, 2) for each in made['one_ms']]}\n"
        f"  two syncs write   {two:.2f} ms   {[round(each, 2) for each in made['two_ms']]}\n"
        f"  ratio {two / one:.2f} (at most {RATIO_MAX:g})\n"
        f"reading the position once: {made['poll_ms']:.3f} ms\n"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return 0 if two <= RATIO_MAX * one else 1


if __name__ == "__main__":
    sys.exit(main())
