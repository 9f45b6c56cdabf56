"""``midstreamer judge``: judge decisions on whole data sets, beside other forecasting methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

if TYPE_CHECKING:  # importing the kernels is slow, and other commands do not need them
    from midstreamer.cli import run_work as runs
    from midstreamer.market.judgement_values import Judgement


def judged(selection: runs.Selection) -> Judgement:
    """Run a backtest over one data set and judge the second half of its decisions."""
    from midstreamer.cli import run_work as runs
    from midstreamer.market import backtest
    from midstreamer.market import judge as judges

    (job,) = runs.jobs(selection)
    universe = {
        column.series: backtest.Points(column.times_array(), column.values_array())
        for column in job.table.columns()
    }
    record = backtest.record(backtest.Walk(universe, job.specification))
    return judges.judge_decisions(record.decisions, record.verdicts, universe, seasons=job.seasons)


def judge(
    data: str = typer.Option("", help="sp500, load, or a file. Default: both data sets."),
    json_report: Path | None = typer.Option(
        None, "--json", help="Also write the figures to this JSON file."
    ),
    window: int | None = typer.Option(None, help="Points in each compared window."),
    horizon: int | None = typer.Option(None, help="Points to forecast ahead."),
) -> None:
    """Backtest a data set, and judge the decisions of its second half.

    Each figure has a 95 % interval; rivals that do better are named. Takes minutes.

    Example: midstreamer judge --data load --json judge.json
    """
    from midstreamer.cli import run_work as runs
    from midstreamer.console import judgements as tables
    from midstreamer.console.terminal import console_here

    console, judgements = console_here(), {}
    for name in (data,) if data else ("sp500", "load"):
        selection = runs.Selection(data=(name,), window=window, horizon=horizon)
        judgements[name] = judged(selection)
        console.print(tables.table(judgements[name]))
    if json_report is not None:
        encoded = msgspec.json.format(msgspec.json.encode(judgements), indent=2)
        json_report.write_bytes(encoded + b"\n")
