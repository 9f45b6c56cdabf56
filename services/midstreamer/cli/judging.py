"""``midstreamer judge``: the reasoning on whole data sets, beside its rivals, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # the kernels load when something is judged, not for `--help` of another verb
    from midstreamer.cli import run as runs
    from midstreamer.market import judge as judges


def judged(selection: runs.Selection) -> judges.Judgement:
    """Walk one data set from its beginning and judge the second half of its decisions."""
    from midstreamer.cli import run as runs
    from midstreamer.market import backtest
    from midstreamer.market import judge as judges

    (job,) = runs.jobs(selection)
    universe = {
        column.series: backtest.Points(column.times_array(), column.values_array())
        for column in job.table.columns()
    }
    made = backtest.record(backtest.Walk(universe, job.specification))
    return judges.judge_decisions(made.decisions, made.verdicts, universe, seasons=job.seasons)


def judge(
    data: str = typer.Option("", help="sp500, load, or a file. Default: both data sets."),
    json_report: Path | None = typer.Option(None, "--json", help="Write the figures there too."),
    window: int | None = typer.Option(None, help="Points compared."),
    horizon: int | None = typer.Option(None, help="Points foretold ahead."),
) -> None:
    """Judge what would have been said over all of a data set, from its second half on.

    Each figure has a 95 % interval; rivals that do better are named. Takes minutes.

    Example: midstreamer judge --data load --json judge.json
    """
    from midstreamer.cli import run as runs
    from midstreamer.console.terminal import console_here
    from midstreamer.market import judge as judges

    console, made = console_here(), {}
    for name in (data,) if data else ("sp500", "load"):
        selection = runs.Selection(data=(name,), window=window, horizon=horizon)
        made[name] = judged(selection)
        console.print(judges.rendered(made[name]))
    if json_report is not None:
        json_report.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
