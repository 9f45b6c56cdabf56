"""Flags of the commands that query a running fleet. `cli.fleet_queries` does the work.

Every process of a fleet is started by the command `midstreamer`, which imports this module for the
flags of its subcommands. So this module imports `cli.fleet_queries` only when a query runs.
"""

from __future__ import annotations

from pathlib import Path

import typer

PATIENCE_S = 120.0
"""Default of ``--patience``, in seconds."""
DRAIN_TIMEOUT_S = 120.0
"""Default of ``drain --timeout``, in seconds."""

File = typer.Argument(help="CSV (time,series,value) or Parquet.")
WindowLength = typer.Option(64, "--window", help="Points in each compared window.")
Horizon = typer.Option(5, help="Points to forecast ahead.")
Plain = typer.Option(
    False, "--identity", help="Compare the values, not their logarithms. Suits loads."
)


def replay(
    context: typer.Context,
    file: str = typer.Argument(help="CSV (time,series,value), Parquet, or - for standard input."),
    start: str = typer.Option("", "--from", metavar="TIME", help="Time of the first live tick."),
    stop: str = typer.Option("", "--to", metavar="TIME", help="Time before which live ticks end."),
    series: str = typer.Option("", help="Replay only these series, separated by commas."),
    window: int | None = typer.Option(None, help="Points in each compared window."),
    horizon: int | None = typer.Option(None, help="Points to forecast ahead."),
    rate: float | None = typer.Option(None, help="Most ticks per second."),
    patience: float = typer.Option(PATIENCE_S, help="Most seconds that an outage may last."),
) -> None:
    """Replay a file into a running fleet. Half of the file is history unless --from is given.

    Example: midstreamer replay prices.csv --from 2021-01-01
    """
    from midstreamer.cli import fleet_queries
    from midstreamer.cli import run_work as runs

    selection = runs.selection((file,), start, stop, series, window, horizon)
    fleet_queries.replay(context, file, selection, rate, patience)


def match(
    context: typer.Context,
    file: Path = File,
    window: int = WindowLength,
    horizon: int = Horizon,
    universe: str = typer.Option("", help="Search this universe, not the file's own."),
    plain: bool = Plain,
) -> None:
    """Show the past windows nearest to the end of each series of a file. Stores nothing.

    Example: midstreamer match prices.csv --window 64 --horizon 5
    """
    from midstreamer.cli import fleet_queries

    fleet_queries.match(
        context, file, fleet_queries.specification_of(window, horizon, plain=plain), universe
    )


def status(
    context: typer.Context,
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Show the members of the fleet, their state, and what is stored.

    Example: midstreamer --config ~/.local/state/midstreamer/client.toml status
    """
    from midstreamer.cli import fleet_queries

    fleet_queries.status(context, as_json=as_json)


def drain(
    context: typer.Context,
    name: str = typer.Argument(help="Member as <kind>/<id>, as shown by `midstreamer status`."),
    identity: str | None = typer.Option(
        None, "--as", metavar="IDENTITY", help="Connect as operator/<id> or client/<id>."
    ),
    wait: bool = typer.Option(True, help="Wait until the member has left the fleet."),
    timeout: float = typer.Option(DRAIN_TIMEOUT_S, min=0.0, help="Most seconds to wait."),
) -> None:
    """Drain a member of the fleet: it finishes its requests, hands over its work, and stops.

    Example: midstreamer drain agent/a2 --as operator/me
    """
    from midstreamer.cli import fleet_queries

    fleet_queries.drain(context, name, identity, wait=wait, timeout_s=timeout)
