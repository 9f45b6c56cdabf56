"""``midstreamer run``: its flags, its display and its report. `cli.run_work` does the work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from midstreamer.cli import settings
from midstreamer.cli.run_settings import RunSettings
from midstreamer.domain.errors import BadInput

if TYPE_CHECKING:
    from midstreamer.cli.run_work import Job
    from midstreamer.console import replay_screen
    from midstreamer.market import report

DATA_USUAL = ("sp500", "load")
"""Data sets of a run without ``--data``."""


def run(
    context: typer.Context,
    data: str = typer.Option(
        "", help="sp500, load, or a CSV or Parquet file. Default: sp500, then a part of load."
    ),
    json_report: Path | None = typer.Option(
        None, "--json", help="Also write the figures to this JSON file."
    ),
    json_schema: bool = typer.Option(
        False, "--json-schema", help="Print the JSON Schema of the report and exit."
    ),
    start: str = typer.Option(
        "", "--from", metavar="TIME", help="Time of the first live tick; earlier ticks are history."
    ),
    stop: str = typer.Option("", "--to", metavar="TIME", help="Time before which live ticks end."),
    series: str = typer.Option("", help="Use only these series, separated by commas: AAPL,JPM."),
    window: int | None = typer.Option(None, help="Points in each compared window."),
    horizon: int | None = typer.Option(None, help="Points to forecast ahead."),
    rate: float | None = typer.Option(None, help="Most ticks per second."),
    agents: int | None = typer.Option(None, help="Number of agent processes."),
    engine: str | None = typer.Option(None, help="Engine of the agents: auto, numba or wasm."),
    state_dir: Path | None = typer.Option(None, help="Folder of database, keys and logs."),
    fresh: bool = typer.Option(
        False, "--fresh", help="First erase the stored data of that folder."
    ),
) -> None:
    """Start a fleet on this machine, load history, replay live ticks, and report the results.

    Stop it with Ctrl-C at any time: the next run continues with the stored data.

    Examples:

    - midstreamer run

    - midstreamer run --data load --json report.json

    - midstreamer run --data prices.csv --from 2021-01-01 --series AAPL,JPM --fresh
    """
    from midstreamer.cli import run_work as runs

    if json_schema:
        _print_schema()
        return
    flags = {"agents": agents, "engine": engine, "state_directory": state_dir}
    run_settings = settings.of(context, RunSettings, flags)
    chosen = (data,) if data else DATA_USUAL
    work = runs.jobs(runs.selection(chosen, start, stop, series, window, horizon))
    _check(rate, json_report)
    _execute(run_settings, work, json_report, rate, settings.file_of(context), fresh)


def _print_schema() -> None:
    """Print the JSON Schema of the report."""
    from midstreamer.market import report

    sys.stdout.write(report.schema().decode())


def _execute(
    run_settings: RunSettings,
    work: Sequence[Job],
    json_report: Path | None,
    rate: float | None,
    config_file: Path | None,
    fresh: bool,
) -> None:
    """Lock the state folder, execute and show the run, and print its report even if it fails."""
    from rich.text import Text

    from midstreamer.cli import run_work as runs
    from midstreamer.cli import state_folder
    from midstreamer.console import replay_screen
    from midstreamer.runtime import shutdown
    from midstreamer.telemetry import logs

    logs.configure(json=False, level="error")
    done: list[report.Report] = []
    with contextlib.ExitStack() as ends:
        folder = ends.enter_context(
            state_folder.held(state_folder.where(run_settings.state_directory))
        )
        shown = ends.enter_context(replay_screen.screen_here())
        if remark := state_folder.remark(folder.folder):
            shown.show(Text(remark))
        ends.callback(_tell, done, shown, json_report)
        stopped = shutdown.run(
            runs.execute(
                folder, run_settings, work, shown,
                rate=rate, config_file=config_file, fresh=fresh, done=done,
            )
        )  # fmt: skip
    if stopped is not None:
        raise typer.Exit(128 + stopped)


def _check(rate: float | None, json_report: Path | None) -> None:
    """Raise BadInput for flags that cannot work."""
    if rate is not None and not rate > 0:
        raise BadInput(f"--rate {rate:g}: the rate must be above 0 ticks per second")
    if json_report is not None and not json_report.absolute().parent.is_dir():
        raise BadInput(
            f"--json {json_report}: folder {json_report.absolute().parent} does not exist"
        )


def _tell(done: list[report.Report], shown: replay_screen.Screen, json_report: Path | None) -> None:
    """Print the report, also of a run that was stopped or that failed."""
    from rich.text import Text

    from midstreamer.console import decision_tables
    from midstreamer.market import report

    for finished in done:
        shown.show(decision_tables.summary(finished))
        if json_report is not None:
            json_report.write_bytes(report.encode(finished))
            shown.show(Text(f"figures as JSON: {json_report}"))
        if finished.interrupted:
            shown.show(Text("stopped before its end; the same command continues from here"))
