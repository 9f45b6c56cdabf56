"""Load tests over QUIC: ``make load``, or ``python -m loadtests``.

``run`` starts a local fleet, issues certificates for the users, and runs locust, which sends
requests. A shape says how many requests per second. ``run`` prints a table of the results;
thresholds decide the exit status. With ``--web`` a person starts the load on locust's page in a
browser. ``curve`` measures latency at several rates.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtests import fleet, latency_curve, load_plan, profiling, report, start_times
from loadtests.load_plan import Plan
from loadtests.start_times import Spacing
from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs

COLUMNS = 120
"""Width of the tables if the output is no terminal."""
LOCUSTFILE = Path(__file__).parent / "locustfile.py"


def parsed() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="make load", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "curve"), default="run")
    parser.add_argument(
        "--shape", default="smoke", help=f"{', '.join(load_plan.SHAPES)}, or a JSON file"
    )
    parser.add_argument("--users", type=int, help="number of users; default: from the shape")
    parser.add_argument("--agents", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spacing", choices=[str(each) for each in Spacing], default="poisson")
    parser.add_argument(
        "--threshold",
        action="append",
        help="such as match.p99<=50ms or failures<=0%%; exit status 1 if exceeded",
    )
    parser.add_argument("--mix", help="weights of requests, such as match=1,lookup=3")
    parser.add_argument(
        "--no-sdk", action="store_true", help="run without the user that uses the SDK"
    )
    parser.add_argument(
        "--metrics", default="", help="host:port at which the generator serves its metrics"
    )
    parser.add_argument(
        "--web",
        type=int,
        nargs="?",
        const=8089,
        help="serve locust's page at this port; start the load there",
    )
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument(
        "--profile",
        type=Path,
        help="write a flame graph of each process of the fleet into this folder",
    )
    parser.add_argument("--chart", type=Path, help="with curve: draw the curve into this SVG file")
    return parser


def planned(arguments: argparse.Namespace, shape: load_plan.Shape, folder: Path) -> Plan:
    """Return the plan of the load that the command line asks for.

    The plan has no addresses of coordinators yet; `run` adds them when the fleet runs.
    """
    return Plan(
        addresses=(),
        certificates=folder / "state" / "certs",
        trust_domain=fleet.TRUST_DOMAIN,
        shape=shape,
        mix=load_plan.mix_of(arguments.mix) if arguments.mix else dict(load_plan.MIX),
        spacing=Spacing(arguments.spacing),
        seed=arguments.seed,
        thresholds=tuple(arguments.threshold or ("failures<=0%",)),
        run=f"r{int(time.time()):x}",
        sdk_per_s=0.0 if arguments.no_sdk else 4.0,
        metrics=arguments.metrics,
        answer=folder / "load.json",
    )


def command(plan: Plan, web: int | None) -> list[str]:
    """Return the command line that starts locust."""
    page = ["--web-port", str(web), "--web-host", "127.0.0.1"] if web else ["--headless"]
    users = ["-u", str(plan.shape.users), "-r", f"{plan.handshakes_per_s:g}"]
    quiet = ["--only-summary", "--loglevel", "WARNING", "--reset-stats"]
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *page, *users, *quiet]


async def load(plan: Plan, folder: Path, web: int | None) -> int:
    """Run locust with a plan and return its exit code; its output goes to ``locust.log``."""
    path = folder / "plan.json"
    load_plan.write(load_plan.check(plan), path)
    environment = {**os.environ, "LOAD_PLAN": str(path)}
    with (folder / "locust.log").open("wb") as log:
        locust = await asyncio.create_subprocess_exec(
            *command(plan, web), env=environment, stdout=log, stderr=log
        )
        try:
            return await locust.wait()
        finally:
            if locust.returncode is None:
                locust.terminate()
                await locust.wait()


async def run(arguments: argparse.Namespace, folder: Path, told: Console, screen: Console) -> int:
    """Start a fleet, load it, and print the results; return the exit status.

    Raise MidstreamerError if locust leaves no results.
    """
    shape = (
        latency_curve.shape(arguments)
        if arguments.what == "curve"
        else load_plan.shape_of(arguments.shape)
    )
    if arguments.users:
        shape = load_plan.with_users(shape, arguments.users)
    plan = load_plan.check(planned(arguments, shape, folder))

    def news(line: str) -> None:
        told.print(line, style="dim")

    async with fleet.running(
        folder, users=shape.users, agents=arguments.agents, news=news
    ) as running:
        plan = load_plan.at(plan, running.coordinator)
        before = fleet.scraped(running)
        seconds = start_times.length_s(shape.stages)
        begin_s = shape.users / plan.handshakes_per_s
        news(
            f"{shape.users} users connect in {begin_s:.0f} s and load the fleet for {seconds:.0f} s"
        )
        if arguments.web:
            news(f"start the load at http://127.0.0.1:{arguments.web}")
        async with profiling.recorded(running.children, arguments.profile):
            code = await load(plan, folder, arguments.web)
        after = await asyncio.to_thread(fleet.scraped, running)
    if not plan.answer.exists():
        last = (folder / "locust.log").read_text("utf-8", "replace")[-2000:]
        raise MidstreamerError(f"locust ended with exit code {code} and left no results: {last}")
    figures = report.read(plan.answer)
    figures.servers = report.spent(before, after, figures.seconds)
    if arguments.json:
        report.write(figures, plan, arguments.json)
    for path in sorted(arguments.profile.glob("*.svg")) if arguments.profile else ():
        screen.print(profiling.table(path.stem, profiling.read(path)))
    if arguments.what == "curve":
        return latency_curve.show(figures, plan, screen, arguments.chart)
    report.show(figures, plan, screen)
    return 1 if figures.broken or code else 0


def main() -> int:
    """Run a load test; return 1 if a threshold was exceeded, 2 if the test could not run."""
    arguments = parsed().parse_args()
    logs.configure(json=False, level="error")
    screen, errors = Console(), Console(stderr=True)
    if not screen.is_terminal:
        screen = Console(width=COLUMNS)
    try:
        if arguments.profile:
            profiling.prepare(arguments.profile)
        with tempfile.TemporaryDirectory(prefix="midstreamer-load-") as folder:
            return asyncio.run(run(arguments, Path(folder), errors, screen))
    except MidstreamerError as error:
        errors.print(f"error[{error.code}]: {error.message}", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
