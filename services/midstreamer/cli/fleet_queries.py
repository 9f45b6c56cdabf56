"""The work of the commands that query a running fleet. `cli.query_flags` has their flags."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import msgspec
import typer
from rich.table import Table

from midstreamer.cli import drain_progress, peer_credentials, settings
from midstreamer.cli import run_work as runs
from midstreamer.client.api import AsyncClient
from midstreamer.client.config import ClientSettings
from midstreamer.client.matcher import LATEST
from midstreamer.client.request_retries import Policy
from midstreamer.console import decision_tables, members, replay_screen
from midstreamer.console.replay_watch import Watch
from midstreamer.console.terminal import console_here
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import DEFAULT_UNIVERSE, Window, universe_of
from midstreamer.domain.specification import Specification, Transform, check
from midstreamer.market import feeds, report, tick_rows
from midstreamer.market import replay as replays
from midstreamer.runtime import shutdown
from midstreamer.telemetry import logs

STANDARD_INPUT = "-"
"""File name that stands for standard input."""
ANALOGS_SHOWN = 5
"""Number of analogs that ``match`` prints."""


def replay(
    context: typer.Context,
    file: str,
    selection: runs.Selection,
    rate: float | None,
    patience_s: float,
) -> None:
    """Replay a file or standard input, and show the progress."""
    if file == STANDARD_INPUT:
        plan = replays.ReplayPlan(
            specification_of(selection.window, selection.horizon),
            replays.in_thread(feeds.steps(feeds.csv_ticks(sys.stdin))),
            rate=rate,
            patience_s=patience_s,
        )
        watch = Watch("standard input")
    else:
        (job,) = runs.jobs(selection)
        plan = replays.ReplayPlan(
            job.specification, job.live, history=job.history, rate=rate, patience_s=patience_s
        )
        watch = Watch(job.specification.universe, runs.Dates(job.table))
    done(_replay(context, plan, watch, file))


async def _replay(
    context: typer.Context, plan: replays.ReplayPlan, watch: Watch, name: str
) -> None:
    """Replay a plan into the fleet, show it, and print its report however it ends."""
    began_s, complete = time.monotonic(), False
    with replay_screen.screen_here() as shown:
        shown.begin(watch)
        try:
            async with _client(context) as client:
                await replays.Replay(client, plan, shown.take).run()
            complete = True
        finally:
            part = report.part(
                name, plan.specification, watch.tally,
                duration_s=time.monotonic() - began_s, complete=complete,
            )  # fmt: skip
            shown.show(decision_tables.part_table(part))


def match(context: typer.Context, file: Path, specification: Specification, universe: str) -> None:
    """Match the last window of each series of a file, and print its nearest analogs."""
    done(_match(context, feeds.read(file), specification, universe))


async def _match(
    context: typer.Context, table: feeds.Table, specification: Specification, universe: str
) -> None:
    """Match the last window of each series of a table, and print forecasts and analogs."""
    console = console_here()
    length = specification.window
    async with _client(context) as client:
        await _reach(context, client)
        known = {each.series: each.last_time for each in (await client.survey()).series}
        for column in table.columns():
            if len(column) < length:
                raise BadInput(
                    f"{column.series} has {len(column)} ticks, fewer than the {length} of a window:"
                    " choose a shorter --window"
                )
            end = int(column.times_array()[-1])
            values = column.values_array()[-length:].tobytes()
            stored = known.get(column.series, end - 1) >= end and not universe
            name, moment = (column.series, end) if stored else ("", LATEST)
            series_specification = msgspec.structs.replace(
                specification, universe=universe or universe_of(column.series)
            )
            window = Window(name, moment, values)
            (decision,) = await client.match_many([window], series_specification, record=False)
            console.print(_headline(column.series, end, decision), soft_wrap=True)
            console.print(_analogs(decision))


def _headline(series: str, end: int, decision: Decision) -> str:
    """Return one line with the forecast for a window and the signal or the reason to abstain."""
    horizon, interval = decision.specification.horizon, decision_tables.interval_of(decision)
    decision_text = decision_tables.said_of(decision)
    return (
        f"{series} to {tick_rows.instant(end)}: P(rise) {decision.probability:.2f}, in {horizon}:"
        f" {interval}, {decision_text}"
    )


def _analogs(decision: Decision) -> Table:
    """Return a table of the nearest analogs, each with the outcome that followed it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("analog", "end", "distance", "outcome, in units of its scale"):
        table.add_column(heading)
    for analog in list(decision.matches)[:ANALOGS_SHOWN]:
        table.add_row(
            analog.series,
            tick_rows.instant(analog.time),
            f"{analog.distance:.3f}",
            f"{analog.outcome:+.2f}",
        )
    return table


def status(context: typer.Context, *, as_json: bool) -> None:
    """Query the fleet for its members and stored rows, and print them."""
    done(_status(context, as_json=as_json))


async def _status(context: typer.Context, *, as_json: bool = False) -> None:
    """Print members and stored series, or everything as JSON."""
    async with _client(context) as client:
        await _reach(context, client)
        surveyed = await client.survey()
    console = console_here()
    if as_json:
        typer.echo(members.as_json(surveyed))
        return
    console.print(
        f"position {surveyed.position:,}: {surveyed.ticks:,} ticks,"
        f" {surveyed.decisions:,} decisions, {surveyed.verdicts:,} verdicts;"
        f" {surveyed.shard_points:,} windows per shard"
    )
    console.print(members.tables(surveyed, time.time()))
    console.print(decision_tables.series_table(surveyed))


def drain(
    context: typer.Context, name: str, identity: str | None, *, wait: bool, timeout_s: float
) -> None:
    """Ask a member to drain, and print its progress until it has left the fleet."""
    done(_drain(context, name, identity, wait=wait, timeout_s=timeout_s))


async def _drain(
    context: typer.Context, name: str, identity: str | None, *, wait: bool, timeout_s: float
) -> None:
    """Ask a member to drain, unless it drains already; with ``wait``, return when it has left."""
    console = console_here()
    async with _client(context, identity) as client:
        await _reach(context, client)
        watch = drain_progress.Watch(name, (await client.members()).members)
        if not watch.draining:
            watch.check()
            await client.drain(name)
        console.print(watch.begun())
        if wait:
            await drain_progress.until_left(client, watch, timeout_s=timeout_s, say=console.print)


@contextlib.asynccontextmanager
async def _client(
    context: typer.Context, identity: str | None = None
) -> AsyncIterator[AsyncClient]:
    """Yield a client with the user's settings.

    The log does not show failed attempts, because `done` limits it to errors. When a request fails
    in the end, the client raises one error.
    """
    from midstreamer.client import certificates

    client_settings = settings.of(
        context, ClientSettings, {"identity": identity} if identity else None
    )
    carrier = certificates.carrier(
        client_settings.security.directory,
        client_settings.identity,
        peer_credentials.limits_of(client_settings.limits),
        proxy=client_settings.security.proxy,
    )
    policy = Policy(attempt_s=client_settings.attempt_s)
    async with AsyncClient(
        carrier,
        client_settings.addresses,
        deadline_s=client_settings.deadline_s,
        policy=policy,
        link_age_s=client_settings.limits.link_age_s,
    ) as client:
        yield client


async def _reach(context: typer.Context, client: AsyncClient) -> None:
    """Wait until a coordinator is reached, for `client.reach_s` seconds at most."""
    await client.reach(settings.of(context, ClientSettings).reach_s)


def specification_of(
    window: int | None, horizon: int | None, *, plain: bool = False
) -> Specification:
    """Return the specification that these flags describe."""
    default = Specification(
        DEFAULT_UNIVERSE, transform=Transform.IDENTITY if plain else Transform.LOG
    )
    return check(
        msgspec.structs.replace(
            default, window=window or default.window, horizon=horizon or default.horizon
        )
    )


def done(work: Awaitable[None]) -> None:
    """Run a command's work; exit when a signal stops it. The log shows errors only."""
    logs.configure(json=False, level="error")
    stopped = shutdown.run(work)
    if stopped is not None:
        raise typer.Exit(128 + stopped)
