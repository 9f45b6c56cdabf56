"""The flags of the verbs that ask a running fleet; `cli.work` does the work.

`cli.work` loads when one of them runs: every process of a fleet imports the flags of all verbs.
"""

from __future__ import annotations

from pathlib import Path

import typer

PATIENCE_S = 120.0
DRAIN_TIMEOUT_S = 120.0

File = typer.Argument(help="CSV (time,series,value) or Parquet.")
WindowLength = typer.Option(64, "--window", help="Points compared.")
Horizon = typer.Option(5, help="Points foretold ahead.")
Plain = typer.Option(
    False, "--identity", help="Compare values as they are, not their logarithms: for loads."
)


def replay(
    context: typer.Context,
    file: str = typer.Argument(help="CSV (time,series,value), Parquet, or - for standard input."),
    start: str = typer.Option("", "--from", metavar="TIME", help="Where live ticks begin."),
    stop: str = typer.Option("", "--to", metavar="TIME", help="Where live ticks end."),
    series: str = typer.Option("", help="Only these, separated by commas."),
    window: int | None = typer.Option(None, help="Points compared."),
    horizon: int | None = typer.Option(None, help="Points foretold ahead."),
    rate: float | None = typer.Option(None, help="At most so many ticks a second."),
    patience: float = typer.Option(PATIENCE_S, help="Seconds an outage may last."),
) -> None:
    """Replay a file into a running fleet: half of it is history unless --from says otherwise.

    Example: midstreamer replay prices.csv --from 2021-01-01
    """
    from midstreamer.cli import run as runs
    from midstreamer.cli import work

    selection = runs.selection((file,), start, stop, series, window, horizon)
    work.replay(context, file, selection, rate, patience)


def match(
    context: typer.Context,
    file: Path = File,
    window: int = WindowLength,
    horizon: int = Horizon,
    universe: str = typer.Option("", help="Compare with this universe, not the file's own."),
    plain: bool = Plain,
) -> None:
    """Show what in history looks like the end of each series of a file. Stores nothing.

    Example: midstreamer match prices.csv --window 64 --horizon 5
    """
    from midstreamer.cli import work

    work.match(context, file, work.specification_of(window, horizon, plain=plain), universe)


def status(
    context: typer.Context,
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Show who is there, how each process stands, and what is stored.

    Example: midstreamer --config .midstreamer/client.toml status
    """
    from midstreamer.cli import work

    work.status(context, as_json=as_json)


def drain(
    context: typer.Context,
    name: str = typer.Argument(help="Member, <kind>/<id>, as `midstreamer status` names it."),
    identity: str | None = typer.Option(
        None, "--as", metavar="IDENTITY", help="Ask as operator/<id> or client/<id>."
    ),
    wait: bool = typer.Option(True, help="Wait until the member has left."),
    timeout: float = typer.Option(DRAIN_TIMEOUT_S, min=0.0, help="Most seconds to wait."),
) -> None:
    """Ask a process of the fleet to finish what is under way, hand over its part, and stop.

    Example: midstreamer drain agent/a2 --as operator/me
    """
    from midstreamer.cli import work

    work.drain(context, name, identity, wait=wait, timeout_s=timeout)
