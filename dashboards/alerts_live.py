"""A live test of the alerts: each fires for a real fault, and none fires in a healthy hour.

    python -m dashboards alerts-live                       every fault, one after the other
    python -m dashboards alerts-live --only PostgresDown   only faults that make this alert fire

A real Prometheus scrapes a real fleet.  It evaluates the rules as they are built, except that all
durations are divided by a factor to save time.  With factor 30 an hour of the rules takes two
minutes.  The fleet is under load during the whole test.

During the first such hour the test only waits.  During the second one, the healthy hour, it
restarts processes, and no alert may fire.  After that it causes each fault in turn, and the alerts
of the fault must fire.  It removes the fault, waits until the alerts end, and reports how long this
took.
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
from dashboards.fault_environment import Fault, World
from dashboards.faults import FAULTS
from dashboards.rules import PREFIX
from midstreamer.domain.errors import ConfigError
from tests.observed import fleet
from tests.support import prometheus
from tests.support.prometheus import Pace, Prometheus

FACTOR = 30.0
"""Default of the number by which the durations of all rules are divided, to save time."""
HOUR_S = 3600.0
POLL_S = 1.0
ENDS_WITHIN_S = 60.0
"""Longest wait for alerts to end after a fault is removed."""
RESTARTED = ("a2", "c2", "s2", "operator-1")
"""Processes that are restarted during the healthy hour, one after the other."""
SETTINGS = {
    "coordinator": {"OUTBOX_ITEMS_MAX": "16"},
}
"""Settings by component: the coordinators' outbox is small, so that a small load fills it."""


class Fired(NamedTuple):
    """When an alert fired and ended in the live test of one fault."""

    alert: str
    fault: str
    after_s: float | None
    """Seconds from the fault until the alert fired; None if it did not fire."""
    ended_s: float | None = None
    """Seconds from the end of the fault until the alert ended; None if it did not end."""


@dataclass
class Outcome:
    """The result of a live test of the alerts."""

    healthy_s: float
    """Seconds for which the fleet ran without a fault."""
    noise: set[str]
    """Alerts that fired while there was no fault."""
    fired: list[Fired]
    heard: dict[str, Fired] = field(default_factory=dict)
    """For each alert, when it fired for the first time, and after which fault.

    Some alerts look back over hours. When the test causes the fault that is meant for such an
    alert, the alert may still be firing because of an earlier fault. Nobody can then see whether
    the new fault makes the alert fire. So the test reports the first time that the alert fired, and
    the earlier fault that was present then.
    """

    @property
    def code(self) -> int:
        """Exit status: 1 if an alert did not fire for its fault, or fired without a fault."""
        return int(bool(self.noise) or any(each.after_s is None for each in self.fired))


async def firing(asked: Prometheus) -> set[str]:
    """Return the names of the alerts that fire now, without `PREFIX`."""
    found = await asked.alerts()
    return {each.name.removeprefix(PREFIX) for each in found if each.state == "firing"}


async def run(factor: float, only: Collection[str], healthy_s: float | None) -> int:
    """Run the whole test and print its table.

    Return the exit status: 0 if all is well, 1 if an alert behaved wrongly, 2 if ``only`` names an
    unknown alert.
    """
    known = {alert.name for alert in rules.alerts()}
    if unknown := sorted(set(only) - known):
        print(f"unknown alert: {', '.join(unknown)}; the alerts are {', '.join(sorted(known))}")
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
            # Wait so long that rules which look back one hour no longer see the fleet's start.
            await asyncio.sleep(lasts_s)
            world = World(seen, asked, folder)
            outcome = Outcome(lasts_s, await health(world, lasts_s), [])
            for fault in chosen:
                outcome.fired += await tried(world, fault, outcome.heard)
    show(outcome, known if not only else set(only))
    return outcome.code


async def health(world: World, lasts_s: float) -> set[str]:
    """Restart the processes `RESTARTED` in turn under load; return the alerts that fired."""
    heard: set[str] = set()
    print(f"{lasts_s:g} s without a fault; restarting {', '.join(RESTARTED)}", flush=True)
    end_s = time.monotonic() + lasts_s

    async def listen() -> None:
        while time.monotonic() < end_s:
            now = await firing(world.asked)
            for alert in sorted(now - heard):
                print(f"  {alert} fires without a fault", flush=True)
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
    """Cause a fault, wait for its alerts, remove the fault, and wait until the alerts end.

    An alert may still fire because of an earlier fault. It cannot begin to fire again, so the test
    does not wait for it. Its result is taken from ``heard``: the first time that it fired.
    """
    print(f"{fault.name}", flush=True)
    before = await firing(world.asked)
    if before & set(fault.alerts):
        print(
            f"  {', '.join(sorted(before & set(fault.alerts)))} still fires from an earlier fault",
            flush=True,
        )
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
        print(f"  the fault could not be caused or removed: {error!r}", flush=True)
    mended_s = time.monotonic()
    # Do not wait until BurnSlow alerts end: they look back over days, so it would take too long.
    wanted = {each for each in wanted if each in after and not each.endswith("BurnSlow")}
    while wanted - set(ended) and time.monotonic() - mended_s < ENDS_WITHIN_S:
        now = await firing(world.asked)
        # Some alerts begin to fire only after the fault was removed: note their time, too.
        for alert in now - before - set(after):
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


def show(outcome: Outcome, wanted: Iterable[str]) -> None:
    """Print a table with one row for each alert.

    A row shows when the alert fired and ended, whether it also fired while there was no fault, and
    which fault the test caused to make it fire.
    """
    print(f"\n{'alert':24} {'fired':>7} {'ended':>7}  in {outcome.healthy_s:g} s healthy  fault")
    rows = {each.alert: each for each in outcome.fired}
    for alert in sorted(wanted):
        entry = rows.get(alert)
        fired = f"{entry.after_s:.0f} s" if entry and entry.after_s is not None else "no"
        ended = f"{entry.ended_s:.0f} s" if entry and entry.ended_s is not None else "-"
        quiet = "fired" if alert in outcome.noise else "silent"
        print(
            f"{alert:24} {fired:>7} {ended:>7}  {quiet:20}  {entry.fault if entry else 'untested'}"
        )
    count = sum(each.after_s is not None for each in outcome.fired)
    print(f"{count} of {len(outcome.fired)} fired; {len(outcome.noise)} fired without a fault")
