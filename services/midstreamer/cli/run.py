"""``midstreamer run``: start a fleet here, load history, replay, show it, sum it up.

Each part of a run (a data set or file) is its own universe; one that differs from the usual
selection (other series, another beginning of the live part) gets a universe of its own, named
after the selection, because what was learned on other data is not the same stream.  So runs
may be stopped, repeated and mixed in one store, and each goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

import midstreamer
from midstreamer.cli import local
from midstreamer.cli.config import RunSettings
from midstreamer.cli.state import StateFolder
from midstreamer.client.api import AsyncClient
from midstreamer.client.calls import Policy
from midstreamer.console.screen import Screen
from midstreamer.console.watch import Watch
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.series import DEFAULT_UNIVERSE
from midstreamer.domain.specification import Specification, check
from midstreamer.market import bootstrap, datasets, feeds, replay, report, rows
from midstreamer.market.feeds import Table
from midstreamer.market.tally import Tally

SUFFIX_CHARACTERS_MAX = 40
ATTEMPT_S = 30.0
COUNT_S = 3.0
JUDGED_BLOCKS_MIN = 6
"""Blocks of time that must have their verdicts: an interval of fewer says nothing."""


@dataclass(frozen=True)
class Selection:
    """What of the data is used, and what is asked of it; None leaves the usual."""

    data: Sequence[str] = ("sp500", "load")
    start: int | None = None
    """Where the live part begins."""
    stop: int | None = None
    series: tuple[str, ...] = ()
    window: int | None = None
    horizon: int | None = None
    rate: float | None = None


def selection(
    data: Sequence[str],
    start: str = "",
    stop: str = "",
    series: str = "",
    window: int | None = None,
    horizon: int | None = None,
) -> Selection:
    """What flags choose: times as written, series separated by commas."""
    return Selection(
        data=data,
        start=rows.instant_of(start) if start else None,
        stop=rows.instant_of(stop) if stop else None,
        series=tuple(name.strip() for name in series.split(",") if name.strip()),
        window=window,
        horizon=horizon,
    )


@dataclass(frozen=True)
class Job:
    """One part of a run, ready to be replayed."""

    name: str
    table: Table
    """History and live part together: positions in it are positions in the store."""
    history: Table
    live: Table
    specification: Specification
    seasons: tuple[int, ...] = ()


def jobs(selection: Selection) -> list[Job]:
    """Read the data and cut it; every mistake in flags or files is found here, before a start."""
    return [_job(name, selection) for name in selection.data]


def _job(name: str, selection: Selection) -> Job:
    dataset = datasets.DATASETS.get(name)
    if dataset is not None:
        whole = datasets.load(dataset)
        specification = dataset.specification
        start, stop = rows.instant_of(dataset.start), None
        if dataset.stop:
            stop = rows.instant_of(dataset.stop)
    else:
        whole = feeds.read(Path(name))
        specification = Specification(DEFAULT_UNIVERSE)
        start, stop = _middle(whole, name), None
    if selection.series:
        whole = whole.only(_full_names(selection.series, whole))
    moved = selection.start is not None and selection.start != start
    start = start if selection.start is None else selection.start
    table, universe = _named(whole, start if moved else None, selection.series)
    stop = stop if selection.stop is None else selection.stop
    specification = check(
        msgspec.structs.replace(
            specification,
            universe=universe or specification.universe,
            window=selection.window or specification.window,
            horizon=selection.horizon or specification.horizon,
        )
    )
    live = table.between(start, stop)
    if not len(live):
        raise BadInput(
            f"{name} has no tick from {rows.instant(start)}"
            f" to {'its end' if stop is None else rows.instant(stop)}: it goes"
            f" from {rows.instant(int(whole.time[0]))} to {rows.instant(int(whole.time[-1]))}"
        )
    seasons = dataset.seasons if dataset is not None else ()
    return Job(name, table, table.between(None, start), live, specification, seasons)


def _middle(table: Table, name: str) -> int:
    """Where the live part of a file begins by default: half of its times are history."""
    times = table.step_times()
    if not len(times):
        raise BadInput(f"{name}: no ticks below its header")
    return int(times[len(times) // 2])


def _full_names(series: Sequence[str], table: Table) -> list[str]:
    """Names as typed, with the universe left out or not."""
    short = {full.rpartition("/")[2]: full for full in table.series}
    return [each if each in table.series else short.get(each, each) for each in series]


def _named(table: Table, start: int | None, series: Sequence[str]) -> tuple[Table, str]:
    """The table with its universe renamed after an unusual selection."""
    parts = []
    if start is not None:
        parts.append(re.sub(r"[^0-9A-Za-z-]", ".", rows.instant(start)))
    if series:
        parts.append("-".join(sorted(name.rpartition("/")[2] for name in series)))
    universes = sorted({name.partition("/")[0] for name in table.series})
    if not parts:
        return table, universes[0] if len(universes) == 1 else ""
    suffix = ":".join(parts)
    if len(suffix) > SUFFIX_CHARACTERS_MAX:
        suffix = hashlib.sha256(suffix.encode()).hexdigest()[:16]
    renamed = tuple(name.replace("/", f":{suffix}/", 1) for name in table.series)
    universe = f"{universes[0]}:{suffix}" if len(universes) == 1 else ""
    return dataclasses.replace(table, series=renamed), universe


class Dates:
    """When the points of a table were, by series and position."""

    def __init__(self, table: Table) -> None:
        self._times = {column.series: column.times_array() for column in table.columns()}

    def __call__(self, series: str, position: int) -> int | None:
        """The time of one point; none when the table does not hold it."""
        times = self._times.get(series)
        return int(times[position]) if times is not None and position < len(times) else None


@dataclass
class Run:
    """One run over a fleet that is up."""

    client: AsyncClient
    screen: Screen
    settings: RunSettings
    rate: float | None
    parts: list[report.Part] = dataclasses.field(default_factory=list)

    async def do(self, work: Sequence[Job]) -> None:
        """Replay every job; a part that is stopped midway is reported too."""
        for job in work:
            watch = Watch(job.specification.universe, Dates(job.table))
            self.screen.begin(watch)
            await self._reported(job, watch)

    async def _replay(self, job: Job) -> None:
        plan = replay.ReplayPlan(
            job.specification,
            job.live,
            history=job.history,
            rate=self.rate,
            patience_s=self.settings.patience_s,
        )
        await replay.Replay(self.client, plan, self.screen.take).run()

    async def _late_verdicts(self, watch: Watch) -> None:
        """Verdicts of an earlier run that were told to nobody."""
        found = await self.client.lookup(list(watch.tally.pending))
        for verdict in found.verdicts:
            watch.tally.judge(verdict)

    async def _reported(self, job: Job, watch: Watch) -> None:
        """Replay one job and report it, however it ends."""
        began_s, complete, judged = time.monotonic(), False, None
        try:
            await self._replay(job)
            await self._late_verdicts(watch)
            judged = await asyncio.to_thread(judgement, job, watch.tally)
            complete = True
        finally:
            made = report.part(
                job.name,
                job.specification,
                watch.tally,
                duration_s=time.monotonic() - began_s,
                complete=complete,
                judged=judged,
            )
            self.parts.append(made)


def judgement(job: Job, tally: Tally) -> report.JudgedPart | None:
    """The second half of a replay beside its rivals; none when there is too little to judge."""
    from midstreamer.market import backtest, judge  # loads the kernels: a run without needs none

    block = max(2 * job.specification.horizon, bootstrap.BLOCK_MIN)
    if len({decision.time for decision, _ in tally.settled}) < JUDGED_BLOCKS_MIN * block:
        return None
    decisions, verdicts = zip(*tally.settled, strict=True)
    points = {
        column.series: backtest.Points(column.times_array(), column.values_array())
        for column in job.table.columns()
    }
    try:
        return report.judged_of(
            judge.judge_decisions(decisions, verdicts, points, seasons=job.seasons)
        )
    except BadInput:
        return None  # nothing that can be judged: flat windows, or several universes


async def execute(
    state: StateFolder,
    settings: RunSettings,
    work: Sequence[Job],
    screen: Screen,
    *,
    rate: float | None,
    config_file: Path | None,
    fresh: bool,
    done: list[report.Report],
) -> None:
    """The whole run; ``done`` receives the report, also of a run that was stopped."""
    began_s = time.monotonic()
    fleet = local.LocalFleet(state, settings, config_file=config_file, news=screen.say)
    if fresh:
        await fleet.server.erase()
        shutil.rmtree(state.spool, ignore_errors=True)
        state.spool.mkdir(mode=0o700)
    parts: list[report.Part] = []
    kept, interrupted = _kept(state, fleet), True
    try:
        async with fleet:
            screen.say(f"all ready after {time.monotonic() - began_s:.1f} s")
            screen.say(f"meanwhile: midstreamer --config {fleet.client_config} status")
            client = AsyncClient(
                fleet.client_carrier(), [fleet.coordinator], policy=Policy(attempt_s=ATTEMPT_S)
            )
            async with client:
                try:
                    await Run(client, screen, settings, rate, parts).do(work)
                finally:  # a run that was stopped is counted too
                    kept = await _counted(kept, client)
            screen.say("stopping")
        interrupted = False
    finally:
        if parts:
            done.append(
                report.Report(
                    midstreamer=midstreamer.__version__,
                    engine=settings.engine,
                    agents=settings.agents,
                    interrupted=interrupted,
                    duration_s=time.monotonic() - began_s,
                    parts=tuple(parts),
                    kept=kept,
                )
            )


def _kept(state: StateFolder, fleet: local.LocalFleet) -> report.Kept:
    return report.Kept(str(state.folder), fleet.server.dsn, str(state.logs), str(state.certs))


async def _counted(kept: report.Kept, client: AsyncClient) -> report.Kept:
    try:
        async with asyncio.timeout(COUNT_S):
            there = await anext(client.pages())
    except (MidstreamerError, TimeoutError):
        return kept
    return msgspec.structs.replace(
        kept, ticks=there.ticks, decisions=there.decisions, verdicts=there.verdicts
    )
