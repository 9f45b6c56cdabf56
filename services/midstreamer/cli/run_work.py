"""Execute ``midstreamer run``: start a fleet, load the history, replay, show and report.

Each part of a run (a data set or a file) has its own universe. A part with an unusual selection
(other series, another start of the live ticks) gets a universe named after the selection, because a
learning state of one selection does not suit another. So runs with different selections can share a
store, and each continues where it stopped.
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
from midstreamer.cli import local_fleet
from midstreamer.cli.run_settings import RunSettings
from midstreamer.cli.state_folder import StateFolder
from midstreamer.client.api import AsyncClient
from midstreamer.client.request_retries import Policy
from midstreamer.console.replay_screen import Screen
from midstreamer.console.replay_watch import Watch
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.series import DEFAULT_UNIVERSE
from midstreamer.domain.specification import Specification, check
from midstreamer.market import bootstrap, datasets, feeds, replay, report, tick_rows
from midstreamer.market.feeds import Table
from midstreamer.market.replay_tally import Tally

SUFFIX_CHARACTERS_MAX = 40
"""Longest suffix of a universe's name; a longer one is replaced by its hash."""
ATTEMPT_S = 30.0
"""Maximum seconds for one attempt of a request."""
COUNT_S = 3.0
"""Maximum seconds to wait for the counts of stored rows at the end."""
JUDGED_BLOCKS_MIN = 6
"""A replay is judged only if its verdicts cover at least this many blocks of time. With fewer
blocks, the confidence intervals would be meaningless."""


@dataclass(frozen=True)
class Selection:
    """The data that a run uses, and the parameters that the user chose.

    A field that is None or empty means the default.
    """

    data: Sequence[str] = ("sp500", "load")
    start: int | None = None
    """Time of the first live tick, in microseconds."""
    stop: int | None = None
    """Time before which the live ticks end, in microseconds."""
    series: tuple[str, ...] = ()
    """Series to use; empty: all."""
    window: int | None = None
    horizon: int | None = None
    rate: float | None = None
    """Maximum ticks per second."""


def selection(
    data: Sequence[str],
    start: str = "",
    stop: str = "",
    series: str = "",
    window: int | None = None,
    horizon: int | None = None,
) -> Selection:
    """Return the selection that flags describe: times as text, series separated by commas."""
    return Selection(
        data=data,
        start=tick_rows.instant_of(start) if start else None,
        stop=tick_rows.instant_of(stop) if stop else None,
        series=tuple(name.strip() for name in series.split(",") if name.strip()),
        window=window,
        horizon=horizon,
    )


@dataclass(frozen=True)
class Job:
    """One part of a run, ready to be replayed."""

    name: str
    table: Table
    """History and live ticks together. Positions in this table equal positions in the store."""
    history: Table
    """Ticks before the live part."""
    live: Table
    """Ticks to replay."""
    specification: Specification
    seasons: tuple[int, ...] = ()
    """Lengths of the seasons in ticks, such as 24 and 168 for hourly data. A judgement uses these
    lengths to compute the forecasts of the seasonal rivals."""


def jobs(selection: Selection) -> list[Job]:
    """Read and select the data. Wrong flags or files are found here, before anything is started."""
    return [_job(name, selection) for name in selection.data]


def _job(name: str, selection: Selection) -> Job:
    """Read one data set or file, select from it, and return the job."""
    dataset = datasets.DATASETS.get(name)
    if dataset is not None:
        full_table = datasets.load(dataset)
        specification = dataset.specification
        start, stop = tick_rows.instant_of(dataset.start), None
        if dataset.stop:
            stop = tick_rows.instant_of(dataset.stop)
    else:
        full_table = feeds.read(Path(name))
        specification = Specification(DEFAULT_UNIVERSE)
        start, stop = _middle(full_table, name), None
    if selection.series:
        full_table = full_table.only(_full_names(selection.series, full_table))
    moved = selection.start is not None and selection.start != start
    start = start if selection.start is None else selection.start
    table, universe = _named(full_table, start if moved else None, selection.series)
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
            f"{name} has no tick from {tick_rows.instant(start)}"
            f" to {'its end' if stop is None else tick_rows.instant(stop)}: its ticks are"
            f" from {tick_rows.instant(int(full_table.time[0]))}"
            f" to {tick_rows.instant(int(full_table.time[-1]))}"
        )
    seasons = dataset.seasons if dataset is not None else ()
    return Job(name, table, table.between(None, start), live, specification, seasons)


def _middle(table: Table, name: str) -> int:
    """Return the default time of the first live tick: the middle one of the distinct times."""
    times = table.step_times()
    if not len(times):
        raise BadInput(f"{name}: the file has no ticks")
    return int(times[len(times) // 2])


def _full_names(series: Sequence[str], table: Table) -> list[str]:
    """Return the full names of series that were typed with or without their universe."""
    short = {full.rpartition("/")[2]: full for full in table.series}
    return [each if each in table.series else short.get(each, each) for each in series]


def _named(table: Table, start: int | None, series: Sequence[str]) -> tuple[Table, str]:
    """Return the table with its universes renamed, and the new name of its only universe.

    If the user chose ``start``, the first time of the live ticks, it is appended to the name of
    each universe.  So are the names in ``series``.  The second value is "" when the table has
    several universes.
    """
    parts = []
    if start is not None:
        parts.append(re.sub(r"[^0-9A-Za-z-]", ".", tick_rows.instant(start)))
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
    """Event times of the points of a table, by series and position."""

    def __init__(self, table: Table) -> None:
        self._times = {column.series: column.times_array() for column in table.columns()}

    def __call__(self, series: str, position: int) -> int | None:
        """Return the time of one point; None when the table does not contain it."""
        times = self._times.get(series)
        return int(times[position]) if times is not None and position < len(times) else None


@dataclass
class Run:
    """One run on a fleet that has been started."""

    client: AsyncClient
    screen: Screen
    settings: RunSettings
    rate: float | None
    parts: list[report.Part] = dataclasses.field(default_factory=list)
    """List to which the report of each finished or stopped part is appended."""

    async def do(self, work: Sequence[Job]) -> None:
        """Replay every job and report it, also a job that is stopped before its end."""
        for job in work:
            watch = Watch(job.specification.universe, Dates(job.table))
            self.screen.begin(watch)
            await self._reported(job, watch)

    async def _replay(self, job: Job) -> None:
        """Replay one job."""
        plan = replay.ReplayPlan(
            job.specification,
            job.live,
            history=job.history,
            rate=self.rate,
            patience_s=self.settings.patience_s,
        )
        await replay.Replay(self.client, plan, self.screen.take).run()

    async def _late_verdicts(self, watch: Watch) -> None:
        """Fetch verdicts that an earlier run did not receive."""
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
            part = report.part(
                job.name,
                job.specification,
                watch.tally,
                duration_s=time.monotonic() - began_s,
                complete=complete,
                judged=judged,
            )
            self.parts.append(part)


def judgement(job: Job, tally: Tally) -> report.JudgedPart | None:
    """Judge the second half of a replay; None when there are too few verdicts."""
    # Imported here: these modules import the kernels, which most runs do not need.
    from midstreamer.market import backtest, judge

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
        return None  # cannot be judged, e.g. all windows are flat, or there are several streams


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
    """Execute the whole run; append its report to ``done``, also when the run is stopped early."""
    began_s = time.monotonic()
    fleet = local_fleet.LocalFleet(state, settings, config_file=config_file, news=screen.say)
    if fresh:
        await fleet.server.erase()
        shutil.rmtree(state.spool, ignore_errors=True)
        state.spool.mkdir(mode=0o700)
    parts: list[report.Part] = []
    kept, interrupted = _kept(state, fleet), True
    try:
        async with fleet:
            screen.say(f"all ready after {time.monotonic() - began_s:.1f} s")
            screen.say(f"to see the members: midstreamer --config {fleet.client_config} status")
            client = AsyncClient(
                fleet.client_carrier(), [fleet.coordinator], policy=Policy(attempt_s=ATTEMPT_S)
            )
            async with client:
                try:
                    await Run(client, screen, settings, rate, parts).do(work)
                finally:  # also count the rows of a run that was stopped
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


def _kept(state: StateFolder, fleet: local_fleet.LocalFleet) -> report.Kept:
    """Return the part of the report that names the folders and the database of the run."""
    return report.Kept(str(state.folder), fleet.server.dsn, str(state.logs), str(state.certs))


async def _counted(kept: report.Kept, client: AsyncClient) -> report.Kept:
    """Return ``kept`` with the counts of stored rows, if the fleet answers in time."""
    try:
        async with asyncio.timeout(COUNT_S):
            surveyed = await anext(client.pages())
    except (MidstreamerError, TimeoutError):
        return kept
    return msgspec.structs.replace(
        kept, ticks=surveyed.ticks, decisions=surveyed.decisions, verdicts=surveyed.verdicts
    )
