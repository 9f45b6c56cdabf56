"""Each alert, made to fire on a real fleet by a real fault; and silence through a healthy hour.

    python -m dashboards alerts-live                       every fault, one after the other
    python -m dashboards alerts-live --only PostgresDown   those that make these alerts fire

A real Prometheus keeps the rules as they are built, with all durations divided by one factor and
nothing else changed.  First comes an hour of that time with load and restarts, in which nothing may
fire.  Then each fault is made, its alerts must fire, and must end when it is mended.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dashboards import rules
from dashboards.faults import FAULTS
from dashboards.rules import PREFIX
from dashboards.world import Fault, World
from midstreamer.domain.errors import ConfigError
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace, Prometheus

FACTOR = 30.0
HOUR_S = 3600.0
POLL_S = 1.0
ENDS_WITHIN_S = 60.0
RESTARTED = ("a2", "c2", "s2", "operator-1")
"""What is replaced in the healthy hour, one after the other."""
SETTINGS = {
    "coordinator": {"OUTBOX_ITEMS_MAX": "16"},
}
"""Few places, so that a small load fills them."""


class Fired(NamedTuple):
    """How it went with one alert."""

    alert: str
    fault: str
    after_s: float | None
    """Seconds from the fault until it fired; None when it did not."""
    ended_s: float | None = None
    """Seconds from the mending until it was silent again; None when it was not."""


@dataclass
class Told:
    """What a run found."""

    healthy_s: float
    noise: set[str]
    """Alerts that fired in health."""
    fired: list[Fired]
    heard: dict[str, Fired] = field(default_factory=dict)
    """How each alert fired first, by whatever fault: what looks back for hours fires on."""

    @property
    def code(self) -> int:
        """1 when an alert did not fire, or fired in health."""
        return int(bool(self.noise) or any(each.after_s is None for each in self.fired))


async def firing(asked: Prometheus) -> set[str]:
    """The alerts that somebody would hear of now."""
    found = await asked.alerts()
    return {each.name.removeprefix(PREFIX) for each in found if each.state == "firing"}


async def run(factor: float, only: Collection[str], healthy_s: float | None) -> int:
    """Everything, and the table of it; 1 when something is not as it should be."""
    known = {alert.name for alert in rules.alerts()}
    if unknown := sorted(set(only) - known):
        print(f"no alert is called {', '.join(unknown)}: there are {', '.join(sorted(known))}")
        return 2
    chosen = [each for each in FAULTS if not only or set(only) & set(each.alerts)]
    with tempfile.TemporaryDirectory(prefix="midstreamer-alerts-") as name:
        folder = Path(name)
        kept = rules.written(folder, factor)
        observed = fleet.observed(folder / "fleet", settings=SETTINGS, rogues=False, news=print)
        async with (
            observed as seen,
            prometheus.running(
                folder / "data", seen.targets(), rules=kept, pace=Pace(1.0, 1.0)
            ) as asked,
        ):
            await asked.all_up()
            fleet.pods_ready(seen.cluster.server)
            lasts_s = HOUR_S / factor if healthy_s is None else healthy_s
            # The windows of an hour are to hold what is usual, and not how the fleet began.
            await asyncio.sleep(lasts_s)
            world = World(seen, asked, folder)
            told = Told(lasts_s, await health(world, lasts_s), [])
            for fault in chosen:
                told.fired += await tried(world, fault, told.heard)
    show(told, known if not only else set(only))
    return told.code


async def health(world: World, lasts_s: float) -> set[str]:
    """Restart one after the other under load; what fired meanwhile."""
    heard: set[str] = set()
    print(f"{lasts_s:g} s of health, with a restart of {', '.join(RESTARTED)}", flush=True)
    end_s = time.monotonic() + lasts_s

    async def listen() -> None:
        while time.monotonic() < end_s:
            now = await firing(world.asked)
            for alert in sorted(now - heard):
                print(f"  {alert} fires in health", flush=True)
            heard.update(now)
            await asyncio.sleep(POLL_S)

    async def restart() -> None:
        for number, name in enumerate(RESTARTED, 1):
            if time.monotonic() < end_s:
                await world.seen.end(name, signal.SIGTERM)
                await world.seen.begin(name)
                await asyncio.sleep(max(0.0, lasts_s * number / len(RESTARTED) / 2))

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        restarting = group.create_task(restart())
        await asyncio.sleep(max(0.0, end_s - time.monotonic()))
        restarting.cancel()
    return heard


async def tried(world: World, fault: Fault, heard: dict[str, Fired]) -> list[Fired]:
    """Make a fault, wait for its alerts, mend it, and wait for their end.

    An alert that still fires because of a fault before is not waited for: it is told as it fired
    then, which is in ``heard``.
    """
    print(f"{fault.name}", flush=True)
    before = await firing(world.asked)
    if before & set(fault.alerts):
        print(f"  {', '.join(sorted(before & set(fault.alerts)))} fires already", flush=True)
    wanted = set(fault.alerts) - before
    after: dict[str, float] = {}
    ended: dict[str, float] = {}
    began_s = time.monotonic()
    try:
        async with fault.make(world):
            began_s = time.monotonic()
            while wanted - set(after) and time.monotonic() - began_s < fault.within_s:
                for alert in (await firing(world.asked) - set(after)) - before:
                    after[alert] = time.monotonic() - began_s
                    heard.setdefault(alert, Fired(alert, fault.name, after[alert]))
                    print(f"  {alert} fires after {after[alert]:.0f} s", flush=True)
                await asyncio.sleep(POLL_S)
    except (AssertionError, ConfigError, OSError, TimeoutError) as error:
        print(f"  the fault could not be made or mended: {error!r}", flush=True)
    mended_s = time.monotonic()
    # What looks back for days goes on for as long: it is not waited for.
    wanted = {each for each in wanted if each in after and not each.endswith("BurnSlow")}
    while wanted - set(ended) and time.monotonic() - mended_s < ENDS_WITHIN_S:
        now = await firing(world.asked)
        for alert in now - before - set(after):  # the mending is a part of the fault
            heard.setdefault(alert, Fired(alert, fault.name, time.monotonic() - began_s))
        for alert in wanted - now - set(ended):
            ended[alert] = time.monotonic() - mended_s
        await asyncio.sleep(POLL_S)
    return [
        heard[alert]
        if alert in before and alert in heard
        else Fired(alert, fault.name, after.get(alert), ended.get(alert))
        for alert in fault.alerts
    ]


def show(told: Told, wanted: Iterable[str]) -> None:
    """The table: alert, fault, fired after, silent again, silent in health."""
    print(f"\n{'alert':24} {'fired':>7} {'ended':>7}  in {told.healthy_s:g} s of health  fault")
    rows = {each.alert: each for each in told.fired}
    for alert in sorted(wanted):
        one = rows.get(alert)
        fired = f"{one.after_s:.0f} s" if one and one.after_s is not None else "no"
        ended = f"{one.ended_s:.0f} s" if one and one.ended_s is not None else "-"
        quiet = "fired" if alert in told.noise else "silent"
        print(
            f"{alert:24} {fired:>7} {ended:>7}  {quiet:20}  {one.fault if one else 'not asked for'}"
        )
    count = sum(each.after_s is not None for each in told.fired)
    print(f"{count} of {len(told.fired)} fired; {len(told.noise)} fired in health")
