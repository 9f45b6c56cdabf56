"""The flags of the verbs that ask a running fleet; `cli.work` does the work.

`cli.work` loads when one of them runs: every process of a fleet imports the flags of all verbs.
"""

from __future__ import annotations

from pathlib import Path

import typer

PATIENCE_S = 120.0

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


def status(context: typer.Context) -> None:
    """Show what is stored, and who is there.

    Example: midstreamer --config .midstreamer/client.toml status
    """
    from midstreamer.cli import work

    work.status(context)
