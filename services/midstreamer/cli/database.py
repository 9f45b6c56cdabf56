"""``midstreamer db``: migrate the database, show its status, and check its content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from midstreamer.cli import settings
from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.sync.config import SyncSettings
from midstreamer.telemetry import logs

if TYPE_CHECKING:  # asyncpg is imported only when a command opens a database
    from midstreamer.store.audit import Report
    from midstreamer.store.embedded_postgres import EmbeddedServer
    from midstreamer.store.postgres import PostgresStore
    from midstreamer.store.store_interface import Status

commands = typer.Typer(no_args_is_help=True, help="Migrate, show and check the database.")

DSN = typer.Option("", help="DSN of the database. Default: sync.dsn, else sync's embedded server.")
STATE_DIR = typer.Option(
    None, help="State folder of `midstreamer run`; its embedded server is started if needed."
)
ResultT = TypeVar("ResultT")


@commands.command()
def migrate(context: typer.Context, dsn: str = DSN, state_dir: Path | None = STATE_DIR) -> None:
    """Migrate the schema to the version of this command; sync does the same when it starts."""
    from midstreamer.store import admin

    _show(_with_store(context, dsn, state_dir, admin.migrate))


@commands.command()
def status(context: typer.Context, dsn: str = DSN, state_dir: Path | None = STATE_DIR) -> None:
    """Show schema version, row counts and sizes."""
    from midstreamer.store import admin

    async def look(store: PostgresStore) -> Status:
        await store.open()
        return await admin.status(store)

    _show(_with_store(context, dsn, state_dir, look))


@commands.command()
def check(
    context: typer.Context,
    dsn: str = DSN,
    state_dir: Path | None = STATE_DIR,
    since: str = typer.Option(
        "", metavar="TIME", help="Check only decisions, and verdicts due, from this time on."
    ),
    json_report: Path | None = typer.Option(
        None, "--json", help="Also write counts and the first 1,000 findings to this JSON file."
    ),
) -> None:
    """Recompute every derived value, and report each stored value that differs.

    Exit code 0 means that no value differs. Ctrl-C stops the check at any time.

    Examples:

    - midstreamer db check --dsn postgresql://localhost/midstreamer

    - midstreamer db check --state-dir ~/.local/state/midstreamer --since 2020-03-01
    """
    from midstreamer.cli import db_check_command
    from midstreamer.console.terminal import console_here
    from midstreamer.market import tick_rows
    from midstreamer.store.audit import EVER

    begin = tick_rows.instant_of(since) if since else EVER
    if json_report is not None and not json_report.absolute().parent.is_dir():
        raise BadInput(
            f"--json {json_report}: folder {json_report.absolute().parent} does not exist"
        )

    async def prove(store: PostgresStore) -> Report:
        await store.open()
        return await db_check_command.checked(store, begin)

    db_check_command.told(_with_store(context, dsn, state_dir, prove), console_here(), json_report)


def _with_store(
    context: typer.Context,
    dsn: str,
    state_dir: Path | None,
    work: Callable[[PostgresStore], Awaitable[ResultT]],
) -> ResultT:
    """Run ``work`` on the chosen store and return its result; a signal stops the work.

    The store is closed in any case. After a signal the command exits.
    """
    from midstreamer.runtime import shutdown
    from midstreamer.store.postgres import PostgresStore

    if dsn and state_dir is not None:
        raise BadInput("--dsn and --state-dir name two different stores: give only one of them")
    sync_settings = settings.of(context, SyncSettings, {"dsn": dsn or None})
    logs.configure(json=False, level="error")
    done: list[ResultT] = []

    async def run() -> None:
        async with _server(sync_settings, state_dir) as source:
            store = PostgresStore(
                source, connect_s=sync_settings.connect_s, command_s=sync_settings.command_s
            )
            try:
                done.append(await work(store))
            finally:
                await store.close()

    stopped = shutdown.run(run())
    if stopped is not None:
        raise typer.Exit(128 + stopped)
    return done[0]


@asynccontextmanager
async def _server(sync_settings: SyncSettings, state_dir: Path | None) -> AsyncIterator[str]:
    """Yield the DSN of the database.

    An embedded server that is not running is started, and stopped when the context ends.
    """
    if sync_settings.dsn and state_dir is None:
        yield sync_settings.dsn.reveal()
        return
    server = await _embedded(sync_settings, state_dir)
    if server.runs_elsewhere:
        yield server.dsn
        return
    try:
        yield await server.start()
    finally:
        await server.stop()


async def _embedded(sync_settings: SyncSettings, state_dir: Path | None) -> EmbeddedServer:
    """Return the embedded server of a folder; ConfigError when the folder has none."""
    from midstreamer.cli import state_folder
    from midstreamer.store.embedded_postgres import EmbeddedServer

    if state_dir is not None:
        folder = state_folder.where(state_dir)
        directory, missing = state_folder.StateFolder(folder).postgres, f"state folder {folder}"
    else:
        directory, missing = (
            sync_settings.directory,
            f"sync.dsn is empty and sync.directory = {sync_settings.directory}",
        )
    if directory.parent.is_dir():
        server = EmbeddedServer(directory)
        if server.data.exists():
            return server
        await server.erase()  # reading `server.data` may have created a folder
    raise ConfigError(f"{missing} has no database: name a database with --dsn or --state-dir")


def _show(found: Status) -> None:
    """Print the status of a database as a table."""
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
