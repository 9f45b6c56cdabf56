"""Builders for stores and sync: columns, decisions, Writes, a PostgreSQL, a running sync."""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from midstreamer import reasoning
from midstreamer.domain import series
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind, make
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Specification, Transform
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.capabilities import OURS
from midstreamer.protocol.frames import Write, Written
from midstreamer.runtime import peer as peers
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.runtime.peer import Peer
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.memory import MemoryStore
from midstreamer.store.postgres import PostgresStore
from midstreamer.store.store_interface import Run, Store
from midstreamer.sync import quota
from midstreamer.sync.commit import Committer
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.quota import Quotas
from midstreamer.sync.service import SyncService
from midstreamer.sync.write_parts import Given
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork

SPECIFICATION = Specification(
    universe="test", window=4, horizon=2, neighbours=3, grid=1, transform=Transform.IDENTITY
)
STEP = 1_000_000
_databases = itertools.count()


def value_at(index: int) -> float:
    """Return the value at an index of every test series; values vary, so that no window is flat."""
    return 100.0 + (index * 7 % 11) + index / 8


def a_column(start: int, stop: int, *, name: str = "test/A", shift: float = 0.0) -> Column:
    """Points ``start`` to ``stop - 1`` of a series with one tick a second."""
    places = range(start, stop)
    values = [value_at(at) + shift for at in places]
    return series.column(name, [at * STEP for at in places], values)


def a_decision(
    index: int, *, name: str = "test/A", shift: float = 0.0, specification: Any = SPECIFICATION
) -> Decision:
    """A decision at an index of `a_column`, made without analogs and before any learning."""
    places = range(index - specification.window + 1, index + 1)
    window = series.window([value_at(at) + shift for at in places], series=name, time=index * STEP)
    evidence = Evidence(specification, window, Matches(), index)
    return reasoning.decide(evidence, reasoning.initial(specification))


def a_write(*columns: Column, decisions: Sequence[Decision] = (), sequence: int = 1) -> Write:
    """A Write of these columns and decisions."""
    return Write(sequence=sequence, columns=columns, decisions=tuple(decisions))


def given(write: Write, *, writer: str = "c1") -> Given:
    """A Write together with the name of its writer."""
    return Given((writer, "first"), write)


def a_committer(store: Store, quotas: Quotas = quota.DEFAULT) -> Committer:
    """The part of sync that commits Writes, with settings like those of the sync process."""
    return Committer(store, reasoning, verdicts_max=4096, streams_memory=16, quotas=quotas)


async def commit(committer: Committer, write: Write) -> Written:
    """Commit one Write; raise the refusal if it is refused."""
    committed = await committer.commit([given(write)])
    (outcome,) = committed.outcomes
    if isinstance(outcome, MidstreamerError):
        raise outcome
    return outcome


async def contents(store: Store) -> dict[str, Any]:
    """Return the points, states and events of a store, in a form that can be compared."""
    points = {}
    for each in (await store.catalogue("", 10_000)).series:
        (part,) = await store.load([_whole(each.series, each.count)], each.count)
        points[each.series] = list(zip(part.times.tolist(), part.values.tolist(), strict=True))
    states = {state.stream: (state.version, state.body) for _, state in await store.streams()}
    learned = {
        # Events with equal time may have any order: the learned state does not depend on it.
        stream: sorted(await store.events(stream, 0, version), key=_by_experience)
        for stream, (version, _) in states.items()
    }
    return {"points": points, "states": states, "learned": learned}


def _by_experience(event: Decision | Verdict) -> tuple[bytes, str]:
    return event.experience_id, type(event).__name__


def _whole(name: str, count: int) -> Run:
    return Run(name, 0, count)


# --- a PostgreSQL ---------------------------------------------------------------------------------


@functools.cache
def the_server() -> EmbeddedServer:
    """Return the PostgreSQL server that all tests of this process share, started.

    A test that stops the server must start it again. The server is made only once, because a data
    directory costs a second and a thousand small files. Call this function from a fixture that is
    not a coroutine, because it runs an event loop of its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="midstreamer-test-"))
    server = EmbeddedServer(folder)
    asyncio.run(server.start())
    atexit.register(_remove, server)
    return server


def _remove(server: EmbeddedServer) -> None:
    asyncio.run(server.erase())
    shutil.rmtree(server.directory, ignore_errors=True)


async def a_database(dsn: str) -> str:
    """Create an empty database on the same server; return its DSN."""
    name = f"test_{next(_databases)}"
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@asynccontextmanager
async def a_store(dsn: str = "") -> AsyncIterator[Store]:
    """An open store, in a new database on the server at ``dsn``.

    Without ``dsn`` the store is in memory.
    """
    store: Store = PostgresStore(await a_database(dsn)) if dsn else MemoryStore()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# --- a running sync -------------------------------------------------------------------------------


class Fleet:
    """A sync on a memory network, and the carriers of its peers."""

    def __init__(
        self,
        store: Store,
        *,
        name: str = "sync-1",
        network: MemoryNetwork | None = None,
        **settings: Any,
    ) -> None:
        self.network = network or MemoryNetwork()
        self.running: asyncio.Task[None] | None = None
        self.life = Lifecycle(drain_s=settings.get("drain_s", 30.0))
        self.service = SyncService(
            SyncSettings(listen="sync:0", **settings), self.carrier(Kind.SYNC, name), store
        )

    def carrier(self, kind: Kind, name: str, *, old: bool = False) -> MemoryCarrier:
        """Return the carrier of one process; ``old`` makes it a process of the previous version."""
        named = () if old else OURS
        return MemoryCarrier(self.network, make("test", kind, name), capabilities=named)

    async def dial(
        self, kind: Kind = Kind.COORDINATOR, name: str = "c1", *, old: bool = False
    ) -> Peer:
        """Connect a peer to sync."""
        carrier = self.carrier(kind, name, old=old)
        return await peers.dial(carrier, self.service.address, expect=Kind.SYNC)


@asynccontextmanager
async def a_sync(store: Store, *, wait: bool = True, **settings: Any) -> AsyncIterator[Fleet]:
    """A running sync; ``wait`` waits until its store is open."""
    fleet, ready = Fleet(store, **settings), asyncio.Event()
    task = asyncio.create_task(fleet.service.run(fleet.life, ready=ready))
    try:
        if wait:
            await ready.wait()
        else:
            while not fleet.service.address:  # noqa: ASYNC110 - a few turns of the loop
                await asyncio.sleep(0)
        fleet.running = task
        yield fleet
    finally:
        task.cancel()
        await asyncio.wait({task})


def renamed(decision: Decision, **changes: Any) -> Decision:
    """Return a copy of the decision in which ``changes`` replace fields; its id stays the same."""
    return msgspec.structs.replace(decision, **changes)
