"""A program that runs sync on a shared database, writes a series, and follows the change feed.

It imports only `midstreamer`, so that any version can run it: PYTHONPATH chooses the version. The
test runs a second sync on the same database, which writes the series `OTHER`. This program writes
a number of ticks to its own series. It waits until the change feed has brought the same number of
changes of `OTHER`. Then it prints what it saw as one line of JSON, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from midstreamer.domain import identity, series
from midstreamer.domain.identity import Kind
from midstreamer.protocol.frames import Member, Points, Renew, Tail, Write
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.store.postgres import PostgresStore
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.service import SyncService
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

STEP = 1_000_000
OTHER = "test/now"
LEASE_S = 3.0


def a_write(name: str, at: int) -> Write:
    """A Write with one tick of a series."""
    return Write(sequence=at + 1, columns=(series.column(name, [at * STEP], [float(at)]),))


async def follow(peer: Peer, starts: dict[str, list[int]], done: asyncio.Event, last: int) -> None:
    """Follow the change feed, and record where the points of each change begin.

    ``starts`` gets a list for each series, with the position of the first point of each change.
    ``done`` is set when the feed has brought more than ``last`` changes of `OTHER`.
    """
    async for page in peer.follow(Tail(after=0, states=False)):
        for change in page.changes:
            if isinstance(change, Points):
                starts.setdefault(change.column.series, []).append(change.start)
        if len(starts.get(OTHER, ())) > last:
            done.set()


async def share(dsn: str, name: str, count: int) -> dict[str, Any]:
    """Run sync, write a series, follow the change feed, and return what the follower saw."""
    network, ready = MemoryNetwork(), asyncio.Event()

    def carrier(kind: Kind) -> MemoryCarrier:
        return MemoryCarrier(network, identity.make("test", kind, "before"))

    settings = SyncSettings(listen="sync:0", lease_s=LEASE_S)
    service = SyncService(settings, carrier(Kind.SYNC), PostgresStore(dsn))
    running = asyncio.create_task(service.run(ready=ready))
    await ready.wait()
    peer = await peers.dial(carrier(Kind.COORDINATOR), service.address, expect=Kind.SYNC)
    starts: dict[str, list[int]] = {}
    done, told_s = asyncio.Event(), {}
    following = asyncio.create_task(follow(peer, starts, done, count - 1))
    for at in range(count):
        fleet = await peer.ask(Renew(member=Member("", "", "here:1")))
        written = await peer.ask(a_write(name, at))
        told_s[written.position] = time.time()
        await asyncio.sleep(0.02)
    await done.wait()
    for task in (following, running):
        task.cancel()
    await asyncio.wait({following, running})
    names = [member.name for member in fleet.members]  # type: ignore[attr-defined]
    return {"starts": starts, "told_s": told_s, "members": names}


if __name__ == "__main__":
    seen = asyncio.run(share(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    sys.stdout.write(f"{json.dumps(seen)}\n")
