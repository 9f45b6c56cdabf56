"""Load test inside a cluster: `charts/midstreamer-loadtest` runs one master and its workers.

    python -m loadtests.cluster_load master --namespace fleet --release mid --workers 2
    python -m loadtests.cluster_load worker --namespace fleet --release mid --workers 2 --master
    HOST

A worker obtains certificates for its users and waits for the master.  The master stores the history
that is searched, and starts when all workers are connected.  At the end it adds up the results of
the workers, and prints a table and a line of JSON.  The exit status is 1 if a threshold was
exceeded, and 2 if the test could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtests import identities, load_plan, report, user_certificates, user_requests
from loadtests.load_plan import Plan
from loadtests.start_times import Spacing, length_s, steady
from midstreamer import AsyncClient, __version__
from midstreamer.cli.peer_credentials import carrier
from midstreamer.cluster import kubernetes_names
from midstreamer.domain.errors import MidstreamerError
from midstreamer.runtime.config import LimitSettings, SecuritySettings
from midstreamer.telemetry import logs

COLUMNS = 120
"""Width in characters of the table of results."""
LOCUSTFILE = Path(__file__).parent / "locustfile.py"
INDEX = "JOB_COMPLETION_INDEX"
"""Environment variable with the index of a pod of an indexed Job; Kubernetes sets it."""
PORT = 5557
"""Default port at which locust's master waits for workers."""
STORE_S = 120.0
"""Deadline for storing the history, in seconds."""


def parsed() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="loadtests.cluster_load", description=__doc__)
    parser.add_argument("--version", action="version", version=f"midstreamer {__version__}")
    parser.add_argument("what", choices=("master", "worker"))
    parser.add_argument("--namespace", required=True, help="namespace of the fleet")
    parser.add_argument("--release", required=True, help="release of the fleet")
    parser.add_argument("--trust-domain", default="midstreamer.local")
    parser.add_argument("--port", type=int, default=7400, help="port of the coordinators")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker", type=int, default=int(os.environ.get(INDEX, "0")))
    parser.add_argument("--master", default="127.0.0.1", help="host of the master, for workers")
    parser.add_argument("--master-port", type=int, default=PORT)
    parser.add_argument(
        "--wait", type=int, default=600, help="seconds until all workers must be connected"
    )
    parser.add_argument("--shape", default="smoke", help=", ".join(load_plan.SHAPES))
    parser.add_argument("--users", type=int, help="users of all workers; default: from the shape")
    parser.add_argument(
        "--rate", type=float, help="constant rate in requests per second, instead of the shape"
    )
    parser.add_argument(
        "--seconds", type=float, help="with --rate: duration; default: from the shape"
    )
    parser.add_argument("--mix", help="weights of requests, such as match=1,lookup=3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--budget",
        type=float,
        default=30.0,
        help="longest time of a request in seconds, with retries",
    )
    parser.add_argument("--threshold", action="append", help="such as match.p99<=50ms")
    parser.add_argument(
        "--sdk", type=float, default=4.0, help="SDK requests per second and worker; 0: none"
    )
    parser.add_argument(
        "--metrics", default="", help="host:port at which the generator serves its metrics"
    )
    parser.add_argument(
        "--run",
        default=f"r{int(time.time()):x}",
        help="part of the names of series, unique per run",
    )
    return parser


def planned(arguments: argparse.Namespace, folder: Path) -> Plan:
    """Return the plan of the load for the arguments; raise BadInput if a value is invalid."""
    shape = load_plan.shape_of(arguments.shape)
    if arguments.users:
        shape = load_plan.with_users(shape, arguments.users)
    if arguments.rate:
        seconds = arguments.seconds or length_s(shape.stages)
        shape = load_plan.steadily(shape, steady(seconds, arguments.rate))
    coordinators = kubernetes_names.coordinators(arguments.namespace, arguments.release)
    return load_plan.check(
        Plan(
            addresses=(f"{coordinators}:{arguments.port}",),
            certificates=folder / "certs",
            trust_domain=arguments.trust_domain,
            shape=shape,
            mix=load_plan.mix_of(arguments.mix) if arguments.mix else dict(load_plan.MIX),
            spacing=Spacing.POISSON,
            seed=arguments.seed,
            budget_s=arguments.budget,
            thresholds=tuple(arguments.threshold or ("failures<=0%",)),
            run=arguments.run,
            sdk_per_s=arguments.sdk,
            metrics=arguments.metrics if arguments.what == "worker" else "",
            answer=folder / "load.json",
            worker=arguments.worker if arguments.what == "worker" else 0,
            workers=arguments.workers,
        )
    )


def command(arguments: argparse.Namespace, plan: Plan) -> list[str]:
    """Return the command line that starts locust as master or as worker."""
    locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--loglevel", "WARNING"]
    if arguments.what == "worker":
        place = ["--master-host", arguments.master, "--master-port", str(arguments.master_port)]
        return [*locust, "--worker", *place]
    users = ["-u", str(plan.shape.users), "-r", f"{plan.handshakes_per_s:g}"]
    expected = ["--expect-workers", str(plan.workers)]
    expected += ["--expect-workers-max-wait", str(arguments.wait)]
    place = ["--master-bind-port", str(arguments.master_port), "--headless", "--only-summary"]
    return [*locust, "--master", *place, *expected, *users]


async def locust(arguments: argparse.Namespace, plan: Plan, folder: Path) -> int:
    """Run locust with a plan and return its exit code; its output goes to stderr."""
    path = folder / "plan.json"
    load_plan.write(plan, path)
    process = await asyncio.create_subprocess_exec(
        *command(arguments, plan),
        env={**os.environ, load_plan.VARIABLE: str(path)},
        stdout=sys.stderr,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def store(plan: Plan) -> None:
    """Store the history that users search, and search it once.

    When this search is answered, the agents have loaded the history.
    """
    security = SecuritySettings(directory=plan.certificates, trust_domain=plan.trust_domain)
    me = carrier(identities.loader(plan.trust_domain), security, LimitSettings())
    async with AsyncClient(me, list(plan.addresses), deadline_s=STORE_S) as client:
        await client.append(user_requests.history())
        first = user_requests.windows(
            user_requests.history(), user_requests.specification().window
        )[:1]
        await client.match_many(first, user_requests.specification(), record=False)


async def run(arguments: argparse.Namespace, folder: Path) -> int:
    """Obtain certificates and run the load; return the exit code. The master prints the results."""
    plan = planned(arguments, folder)
    master = arguments.what == "master"
    who = [identities.loader(plan.trust_domain)]
    if not master:
        who = identities.of_worker(plan.shape.users, plan.worker, plan.workers, plan.trust_domain)
    async with user_certificates.certified(
        plan.certificates, who, namespace=arguments.namespace, release=arguments.release, news=say
    ):
        if master:
            await store(plan)
            say(f"the history is stored; waiting for {plan.workers} workers")
        code = await locust(arguments, plan, folder)
    if not master:
        return code
    if not plan.answer.exists():
        raise MidstreamerError(
            f"locust ended with exit code {code} and left no results; see its log above"
        )
    return told(plan, code)


def told(plan: Plan, code: int) -> int:
    """Print the results as a table and as a line of JSON, and return the exit code."""
    figures = report.read(plan.answer)
    report.show(figures, plan, Console(width=COLUMNS))
    rows = {name: report.row(each.latency) for name, each in figures.whole.requests.items()}
    failures = {
        name: dict(each.failures) for name, each in figures.whole.requests.items() if each.failures
    }
    summary = {
        "users": figures.users,
        "seconds": figures.seconds,
        "requests": rows,
        "failures": failures,
        "repeats": figures.repeats,
        "broken": figures.broken,
    }
    print(json.dumps(summary), flush=True)
    return 1 if figures.broken or code else 0


def say(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run as master or worker; return the exit status, 2 if the test could not run."""
    arguments = parsed().parse_args()
    logs.configure(json=False, level="error")
    try:
        with tempfile.TemporaryDirectory(prefix="midstreamer-load-") as folder:
            return asyncio.run(run(arguments, Path(folder)))
    except MidstreamerError as error:
        say(f"error[{error.code}]: {error.message}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
