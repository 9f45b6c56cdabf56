"""``midstreamer run``: the flags, the screen, the report; `cli.run` does the work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from midstreamer.cli import settings
from midstreamer.cli.config import RunSettings
from midstreamer.domain.errors import BadInput

if TYPE_CHECKING:
    from midstreamer.cli.run import Job
    from midstreamer.console import screen
    from midstreamer.market import report

DATA_USUAL = ("sp500", "load")


def run(
    context: typer.Context,
    data: str = typer.Option(
        "", help="sp500, load, or a CSV or Parquet file. Default: sp500, then a part of load."
    ),
    json_report: Path | None = typer.Option(
        None, "--json", help="Write the figures there as JSON too."
    ),
    json_schema: bool = typer.Option(
        False, "--json-schema", help="Print the JSON Schema of the report and end."
    ),
    start: str = typer.Option(
        "", "--from", metavar="TIME", help="Where live ticks begin; what is earlier is history."
    ),
    stop: str = typer.Option("", "--to", metavar="TIME", help="Where live ticks end."),
    series: str = typer.Option("", help="Only these, separated by commas: AAPL,JPM."),
    window: int | None = typer.Option(None, help="Points compared."),
    horizon: int | None = typer.Option(None, help="Points foretold ahead."),
    rate: float | None = typer.Option(None, help="At most so many ticks a second."),
    agents: int | None = typer.Option(None, help="Agent processes."),
    engine: str | None = typer.Option(None, help="auto, numba or wasm."),
    state_dir: Path | None = typer.Option(None, help="Folder of database, keys and logs."),
    fresh: bool = typer.Option(False, "--fresh", help="Erase what is stored there first."),
) -> None:
    """Start a fleet here, load history, replay the rest as live ticks, decide, sum up.

    Stop it with Ctrl-C at any moment: the next run goes on with what is stored.

    Examples:

    - midstreamer run

    - midstreamer run --data load --json report.json

    - midstreamer run --data prices.csv --from 2021-01-01 --series AAPL,JPM --fresh
    """
    from midstreamer.cli import run as runs

    if json_schema:
        _print_schema()
        return
    flags = {"agents": agents, "engine": engine, "state_directory": state_dir}
    made = settings.of(context, RunSettings, flags)
    chosen = (data,) if data else DATA_USUAL
    work = runs.jobs(runs.selection(chosen, start, stop, series, window, horizon))
    _check(rate, json_report)
    _execute(made, work, json_report, rate, settings.file_of(context), fresh)


def _print_schema() -> None:
    from midstreamer.market import report

    sys.stdout.write(report.schema().decode())


def _execute(
    made: RunSettings,
    work: Sequence[Job],
    json_report: Path | None,
    rate: float | None,
    config_file: Path | None,
    fresh: bool,
) -> None:
    """Hold the state folder, show the run, and sum it up however it ends."""
    from midstreamer.cli import run as runs
    from midstreamer.cli import state
    from midstreamer.console import screen
    from midstreamer.runtime import shutdown
    from midstreamer.telemetry import logs

    logs.configure(json=False, level="error")
    done: list[report.Report] = []
    with contextlib.ExitStack() as ends:
        folder = ends.enter_context(state.held(state.where(made.state_directory)))
        shown = ends.enter_context(screen.screen_here())
        ends.callback(_tell, done, shown, json_report)
        stopped = shutdown.run(
            runs.execute(
                folder, made, work, shown,
                rate=rate, config_file=config_file, fresh=fresh, done=done,
            )
        )  # fmt: skip
    if stopped is not None:
        raise typer.Exit(128 + stopped)


def _check(rate: float | None, json_report: Path | None) -> None:
    if rate is not None and not rate > 0:
        raise BadInput(f"--rate {rate:g}: ticks a second must be above 0")
    if json_report is not None and not json_report.absolute().parent.is_dir():
        raise BadInput(f"--json {json_report}: no folder {json_report.absolute().parent}")


def _tell(done: list[report.Report], shown: screen.Screen, json_report: Path | None) -> None:
    """The summary, also of a run that was stopped or failed midway."""
    from rich.text import Text

    from midstreamer.console import views
    from midstreamer.market import report

    for made in done:
        shown.show(views.summary(made))
        if json_report is not None:
            json_report.write_bytes(report.encode(made))
            shown.show(Text(f"figures as JSON: {json_report}"))
        if made.interrupted:
            shown.show(Text("stopped before its end; the same command goes on from here"))
