"""What the verbs that ask a running fleet do; their flags are in `cli.asking`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import msgspec
import typer
from rich.table import Table

from midstreamer.cli import draining, identities, settings
from midstreamer.cli import run as runs
from midstreamer.client.api import AsyncClient
from midstreamer.client.calls import Policy
from midstreamer.client.config import ClientSettings
from midstreamer.client.matcher import LATEST
from midstreamer.console import members, screen, views
from midstreamer.console.terminal import console_here
from midstreamer.console.watch import Watch
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import DEFAULT_UNIVERSE, Window, universe_of
from midstreamer.domain.specification import Specification, Transform, check
from midstreamer.market import feeds, report, rows
from midstreamer.market import replay as replays
from midstreamer.runtime import shutdown
from midstreamer.telemetry import logs

STANDARD_INPUT = "-"
ANALOGS_SHOWN = 5


def replay(
    context: typer.Context,
    file: str,
    selection: runs.Selection,
    rate: float | None,
    patience_s: float,
) -> None:
    """Replay a file or standard input, and show it."""
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
    began_s, complete = time.monotonic(), False
    with screen.screen_here() as shown:
        shown.begin(watch)
        try:
            async with _client(context) as client:
                await replays.Replay(client, plan, shown.take).run()
            complete = True
        finally:
            made = report.part(
                name, plan.specification, watch.tally,
                duration_s=time.monotonic() - began_s, complete=complete,
            )  # fmt: skip
            shown.show(views.part_table(made))


def match(context: typer.Context, file: Path, specification: Specification, universe: str) -> None:
    """Match the last window of each series of a file, and show what looks like it."""
    done(_match(context, feeds.read(file), specification, universe))


async def _match(
    context: typer.Context, table: feeds.Table, specification: Specification, universe: str
) -> None:
    console = console_here()
    length = specification.window
    async with _client(context) as client:
        await _reach(context, client)
        known = {each.series: each.last_time for each in (await client.survey()).series}
        for column in table.columns():
            if len(column) < length:
                raise BadInput(
                    f"{column.series} has {len(column)} ticks, fewer than the window of {length}:"
                    " choose a shorter --window"
                )
            end = int(column.times_array()[-1])
            values = column.values_array()[-length:].tobytes()
            stored = known.get(column.series, end - 1) >= end and not universe
            name, moment = (column.series, end) if stored else ("", LATEST)
            of = msgspec.structs.replace(
                specification, universe=universe or universe_of(column.series)
            )
            asked = Window(name, moment, values)
            (decision,) = await client.match_many([asked], of, record=False)
            console.print(_headline(column.series, end, decision), soft_wrap=True)
            console.print(_analogs(decision))


def _headline(series: str, end: int, decision: Decision) -> str:
    """What is foretold of one window, and what is said."""
    horizon, interval = decision.specification.horizon, views.interval_of(decision)
    said = views.said_of(decision)
    return (
        f"{series} to {rows.instant(end)}: P(rise) {decision.probability:.2f}, in {horizon}:"
        f" {interval}, {said}"
    )


def _analogs(decision: Decision) -> Table:
    """Its nearest past windows, each with what followed."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("analog", "ended", "distance", "then, in units of its scale"):
        table.add_column(heading)
    for analog in list(decision.matches)[:ANALOGS_SHOWN]:
        table.add_row(
            analog.series,
            rows.instant(analog.time),
            f"{analog.distance:.3f}",
            f"{analog.outcome:+.2f}",
        )
    return table


def status(context: typer.Context, *, as_json: bool) -> None:
    """Ask the fleet what is there, and show it."""
    done(_status(context, as_json=as_json))


async def _status(context: typer.Context, *, as_json: bool = False) -> None:
    async with _client(context) as client:
        await _reach(context, client)
        there = await client.survey()
    console = console_here()
    if as_json:
        typer.echo(members.as_json(there))
        return
    console.print(
        f"position {there.position:,}: {there.ticks:,} ticks, {there.decisions:,} decisions,"
        f" {there.verdicts:,} verdicts; {there.shard_points:,} windows a shard"
    )
    console.print(members.tables(there, time.time()))
    console.print(views.series_table(there))


def drain(
    context: typer.Context, name: str, identity: str | None, *, wait: bool, timeout_s: float
) -> None:
    """Ask a member to drain, and show how far it has come until it has left."""
    done(_drain(context, name, identity, wait=wait, timeout_s=timeout_s))


async def _drain(
    context: typer.Context, name: str, identity: str | None, *, wait: bool, timeout_s: float
) -> None:
    console = console_here()
    async with _client(context, identity) as client:
        await _reach(context, client)
        watch = draining.Watch(name, (await client.members()).members)
        if not watch.draining:
            watch.check()
            await client.drain(name)
        console.print(watch.begun())
        if wait:
            await draining.until_left(client, watch, timeout_s=timeout_s, say=console.print)


@contextlib.asynccontextmanager
async def _client(
    context: typer.Context, identity: str | None = None
) -> AsyncIterator[AsyncClient]:
    """A client by the settings; its failed attempts are not logged, its last error is told."""
    from midstreamer.client import certificates

    made = settings.of(context, ClientSettings, {"identity": identity} if identity else None)
    carrier = certificates.carrier(
        made.security.directory,
        made.identity,
        identities.limits_of(made.limits),
        proxy=made.security.proxy,
    )
    policy = Policy(attempt_s=made.attempt_s)
    async with AsyncClient(
        carrier,
        made.addresses,
        deadline_s=made.deadline_s,
        policy=policy,
        link_age_s=made.limits.link_age_s,
    ) as client:
        yield client


async def _reach(context: typer.Context, client: AsyncClient) -> None:
    await client.reach(settings.of(context, ClientSettings).reach_s)


def specification_of(
    window: int | None, horizon: int | None, *, plain: bool = False
) -> Specification:
    """What is asked when flags say this much."""
    made = Specification(DEFAULT_UNIVERSE, transform=Transform.IDENTITY if plain else Transform.LOG)
    return check(
        msgspec.structs.replace(made, window=window or made.window, horizon=horizon or made.horizon)
    )


def done(work: Awaitable[None]) -> None:
    """Run to the end, or to a signal; only errors are logged."""
    logs.configure(json=False, level="error")
    stopped = shutdown.run(work)
    if stopped is not None:
        raise typer.Exit(128 + stopped)
