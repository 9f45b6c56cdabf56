"""Load tests over QUIC: ``make load``, or ``python -m loadtests``.

A local fleet is started, its users are certified, and locust loads it by a shape; a table tells
what came of it, and thresholds decide the exit code. With ``--web`` the load is started from
locust's page in a browser. ``curve`` finds latency against the rate.
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

from loadtests import curve, fleet, plan, profiling, report, schedule
from loadtests.plan import Plan
from loadtests.schedule import Spacing
from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs

COLUMNS = 120
LOCUSTFILE = Path(__file__).parent / "locustfile.py"


def parsed() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make load", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "curve"), default="run")
    parser.add_argument(
        "--shape", default="smoke", help=f"{', '.join(plan.SHAPES)}, or a file of JSON"
    )
    parser.add_argument("--users", type=int, help="instead of those of the shape")
    parser.add_argument("--agents", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spacing", choices=[str(each) for each in Spacing], default="poisson")
    parser.add_argument(
        "--threshold", action="append", help="as match.p99<=50ms or failures<=0%%; decides the exit"
    )
    parser.add_argument("--mix", help="weights, as match=1,lookup=3")
    parser.add_argument("--no-sdk", action="store_true", help="without a user of the SDK beside")
    parser.add_argument("--metrics", default="", help="host:port of the generator's own metrics")
    parser.add_argument("--web", type=int, nargs="?", const=8089, help="locust's page, at a port")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument(
        "--profile",
        type=Path,
        help="folder: where each process of the fleet spends its time, as flame graphs",
    )
    parser.add_argument("--chart", type=Path, help="of curve: draw it there, as SVG")
    return parser


def planned(arguments: argparse.Namespace, shape: plan.Shape, folder: Path) -> Plan:
    """What the arguments ask for; addresses come when the fleet is there."""
    return Plan(
        addresses=(),
        certificates=folder / "state" / "certs",
        trust_domain=fleet.TRUST_DOMAIN,
        shape=shape,
        mix=plan.mix_of(arguments.mix) if arguments.mix else dict(plan.MIX),
        spacing=Spacing(arguments.spacing),
        seed=arguments.seed,
        thresholds=tuple(arguments.threshold or ("failures<=0%",)),
        run=f"r{int(time.time()):x}",
        sdk_per_s=0.0 if arguments.no_sdk else 4.0,
        metrics=arguments.metrics,
        answer=folder / "load.json",
    )


def command(made: Plan, web: int | None) -> list[str]:
    """How locust is started."""
    page = ["--web-port", str(web), "--web-host", "127.0.0.1"] if web else ["--headless"]
    users = ["-u", str(made.shape.users), "-r", f"{made.handshakes_per_s:g}"]
    quiet = ["--only-summary", "--loglevel", "WARNING", "--reset-stats"]
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *page, *users, *quiet]


async def load(made: Plan, folder: Path, web: int | None) -> int:
    """Run locust on a plan; its exit code. Its own tables go to a file."""
    path = folder / "plan.json"
    plan.write(plan.check(made), path)
    environment = {**os.environ, "LOAD_PLAN": str(path)}
    with (folder / "locust.log").open("wb") as log:
        locust = await asyncio.create_subprocess_exec(
            *command(made, web), env=environment, stdout=log, stderr=log
        )
        try:
            return await locust.wait()
        finally:
            if locust.returncode is None:
                locust.terminate()
                await locust.wait()


async def run(arguments: argparse.Namespace, folder: Path, told: Console, screen: Console) -> int:
    """A fleet, the load, the table."""
    shape = curve.shape(arguments) if arguments.what == "curve" else plan.shape_of(arguments.shape)
    if arguments.users:
        shape = plan.with_users(shape, arguments.users)
    made = plan.check(planned(arguments, shape, folder))

    def news(line: str) -> None:
        told.print(line, style="dim")

    async with fleet.running(
        folder, users=shape.users, agents=arguments.agents, news=news
    ) as running:
        made = plan.at(made, running.coordinator)
        before = fleet.scraped(running)
        seconds = schedule.length_s(shape.stages)
        begin_s = shape.users / made.handshakes_per_s
        news(f"{shape.users} users come in {begin_s:.0f} s, and load the fleet for {seconds:.0f} s")
        if arguments.web:
            news(f"start it at http://127.0.0.1:{arguments.web}")
        async with profiling.recorded(running.children, arguments.profile):
            code = await load(made, folder, arguments.web)
        after = await asyncio.to_thread(fleet.scraped, running)
    if not made.answer.exists():
        last = (folder / "locust.log").read_text("utf-8", "replace")[-2000:]
        raise MidstreamerError(f"locust ended with {code} and left no figures: {last}")
    figures = report.read(made.answer)
    figures.servers = report.spent(before, after, figures.seconds)
    if arguments.json:
        report.write(figures, made, arguments.json)
    for path in sorted(arguments.profile.glob("*.svg")) if arguments.profile else ():
        screen.print(profiling.table(path.stem, profiling.read(path)))
    if arguments.what == "curve":
        return curve.show(figures, made, screen, arguments.chart)
    report.show(figures, made, screen)
    return 1 if figures.broken or code else 0


def main() -> int:
    """Load a fleet; 1 when a threshold was broken, 2 when it could not be done."""
    arguments = parsed().parse_args()
    logs.configure(json=False, level="error")
    screen, told = Console(), Console(stderr=True)
    if not screen.is_terminal:
        screen = Console(width=COLUMNS)
    try:
        if arguments.profile:
            profiling.prepare(arguments.profile)
        with tempfile.TemporaryDirectory(prefix="midstreamer-load-") as folder:
            return asyncio.run(run(arguments, Path(folder), told, screen))
    except MidstreamerError as error:
        told.print(f"error[{error.code}]: {error.message}", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
