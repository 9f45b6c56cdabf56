"""``midstreamer db``: bring the store up to date, show it, prove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from midstreamer.cli import settings
from midstreamer.domain.errors import ConfigError, StoreError
from midstreamer.sync.config import SyncSettings

if TYPE_CHECKING:  # asyncpg loads when a database is looked at
    from midstreamer.store.ports import Status
    from midstreamer.store.postgres import PostgresStore

commands = typer.Typer(no_args_is_help=True, help="Look after the database.")

DSN = typer.Option("", help="Instead of sync.dsn; without either, sync's embedded server.")
ResultT = TypeVar("ResultT")


@commands.command()
def migrate(context: typer.Context, dsn: str = DSN) -> None:
    """Bring the schema up to date; sync does the same when it starts."""
    from midstreamer.store import admin

    _show(_with_store(context, dsn, admin.migrate))


@commands.command()
def status(context: typer.Context, dsn: str = DSN) -> None:
    """Show schema version, rows and sizes."""
    from midstreamer.store import admin

    async def look(store: PostgresStore) -> Status:
        await store.open()
        return await admin.status(store)

    _show(_with_store(context, dsn, look))


@commands.command()
def check(context: typer.Context, dsn: str = DSN) -> None:
    """Look for everything that contradicts a promise, and fold all learning again.

    Example: midstreamer db check --dsn postgresql://localhost/midstreamer
    """
    from midstreamer import reasoning
    from midstreamer.console.terminal import console_here
    from midstreamer.store import admin

    rules = admin.Rules(reasoning.initial, reasoning.learn, reasoning.encode, reasoning.decode)

    async def prove(store: PostgresStore) -> list[str]:
        await store.open()
        return await admin.check(store, rules)

    faults = _with_store(context, dsn, prove)
    console = console_here()
    for fault in faults:
        console.print(fault, soft_wrap=True)
    if faults:
        raise StoreError(f"{len(faults)} faults found: keep a dump and report them")
    console.print("nothing contradicts a promise")


def _with_store(
    context: typer.Context, dsn: str, work: Callable[[PostgresStore], Awaitable[ResultT]]
) -> ResultT:
    from midstreamer.store.postgres import PostgresStore

    made = settings.of(context, SyncSettings, {"dsn": dsn or None})

    async def run() -> ResultT:
        async with _server(made) as source:
            store = PostgresStore(source, connect_s=made.connect_s, command_s=made.command_s)
            try:
                return await work(store)
            finally:
                await store.close()

    return asyncio.run(run())


@asynccontextmanager
async def _server(made: SyncSettings) -> AsyncIterator[str]:
    """The database's DSN, starting the embedded server for as long as needed."""
    if made.dsn:
        yield made.dsn.reveal()
        return
    from midstreamer.store.embedded import EmbeddedServer

    server = EmbeddedServer(made.directory)
    if not server.data.exists():
        await server.erase()  # what looking for it may have made
        raise ConfigError(
            f"sync.dsn is empty and sync.directory = {made.directory} holds no database:"
            " name one with --dsn"
        )
    try:
        yield await server.start()
    finally:
        await server.stop()


def _show(found: Status) -> None:
    from rich.table import Table

    from midstreamer.console.terminal import console_here

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("server", found.server)
    table.add_row("schema", str(found.schema))
    table.add_row("position", f"{found.position:,}")
    for name, count in found.rows.items():
        size = found.sizes.get(name)
        table.add_row(name, f"{count:,} rows" + (f", {size / 2**20:.1f} MB" if size else ""))
    console_here().print(table)
