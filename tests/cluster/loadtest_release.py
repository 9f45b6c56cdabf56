"""Load a fleet in a cluster with `charts/midstreamer-loadtest`, and disturb it meanwhile.

    python -m tests.cluster.loadtest_release --users 300 --rate 60 --seconds 780
    python -m tests.cluster.loadtest_release --users 20 --seconds 30 --faults none

KUBECONFIG's cluster must be marked for tests and have the images.  The command installs a fleet
with raised limits, and the chart that loads the fleet.  During the load, one after the other: each
pod of each kind is deleted, each is killed, one coordinator is frozen for some seconds, and each
Deployment and StatefulSet is restarted.  Then every pod and every user of the load renews its
certificate, which is valid for ten minutes only.  The exit code is 0 when no request failed and the
load lasted until all disturbances were over.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from loadtests.load_plan import STARTS
from tests.cluster import cluster_guard, commands_here, crashes, example_application, releases
from tests.cluster.conftest import a_namespace
from tests.cluster.outside_trials import Trial
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release

CHART = Path(__file__).parents[2] / "charts/midstreamer-loadtest"
NAME = "load"
LIFE_S = 600
"""Seconds that certificates are valid: the shortest time that the operator accepts.

A certificate is renewed after two thirds of this time.
"""
READY_S = 180.0
BEGIN_S = 600.0
END_S = 180.0
FREEZE_S = 3.0
FAULTS = ("delete", "kill", "freeze", "roll", "renew")
CERTIFIED = ("agent", "coordinator", "sync", "postgres")
ROLLED = (
    "deployment/{}-agent", "deployment/{}-sync", "statefulset/{}-coordinator",
    "deployment/{}-operator", "statefulset/{}-postgres",
)  # fmt: skip
ALLOWED = ("client/load-*  universes=ticks", "client/loader  universes=load")


@dataclass(frozen=True)
class Asked:
    """The arguments of one run: users, rate (requests a second), length, faults, thresholds."""

    users: int
    rate: float
    seconds: float
    workers: int
    faults: Sequence[str]
    thresholds: Sequence[str]
    life_s: int = LIFE_S


def fleet_values(asked: Asked, loads: str) -> dict[str, Any]:
    """Return the Helm values of the fleet.

    They allow enough links for all users of the load, and make certificates expire soon.
    """
    return {
        "allowlist": list(ALLOWED),
        "clients": {"namespaces": [loads]},
        "config": {"limits": {"links_max": 2 * asked.users + 64}},
        "operator": {"certificateLifeSeconds": asked.life_s},
    }


def load_values(asked: Asked, fleet: Release) -> dict[str, Any]:
    """Return the values of the load test chart."""
    values: dict[str, Any] = {
        "image": releases.images(),
        "fleet": {"namespace": fleet.namespace, "release": fleet.name},
        "users": asked.users,
        "rate": asked.rate,
        "seconds": asked.seconds,
        "workers": asked.workers,
        "thresholds": list(asked.thresholds),
    }
    given: Mapping[str, Any] = json.loads(fleet.given())["networkPolicies"]
    if "apiServer" in given:
        values["networkPolicies"] = {"apiServer": given["apiServer"]}
    return values


class Load:
    """A release of the load test chart, whose Jobs run in a namespace of their own."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes = kubernetes
        self.job = f"{NAME}-master-1"

    def install(self, values: Mapping[str, Any]) -> None:
        """Install the chart of the load test; raises KitError with Helm's error output."""
        words = ["install", NAME, str(CHART), "--namespace", self.kubernetes.namespace]
        commands_here.run([cluster_guard.helm(), *words, "--values", "-"], stdin=json.dumps(values))

    def uninstall(self) -> None:
        """Uninstall the load test chart; this also removes its roles from the fleet's namespace."""
        words = ["uninstall", NAME, "--namespace", self.kubernetes.namespace, "--wait"]
        commands_here.run([cluster_guard.helm(), *words])

    def log(self, part: str = "master", tail: int = 80) -> str:
        """Return the end of the logs of the master or of the workers; "" while their pods start."""
        try:
            selector = f"midstreamer.dev/part={part}"
            return self.kubernetes("logs", f"--selector={selector}", f"--tail={tail}")
        except commands_here.KitError:
            return ""

    def ended(self) -> str:
        """Return how the Job of locust's master has ended: Complete or Failed; "" while it runs."""
        status = self.kubernetes.get(f"job/{self.job}").get("status", {})
        kinds = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
        return next((each for each in ("Complete", "Failed") if each in kinds), "")

    def begun(self) -> bool:
        """Whether every user is connected and the load has begun (or has already ended)."""
        return bool(re.search(f"^{STARTS}", self.log(), re.MULTILINE)) or bool(self.ended())


def told(log: str) -> dict[str, Any]:
    """Return the figures from the last JSON line of a master's log; raises KitError without one."""
    for line in reversed(log.splitlines()):
        with suppress(ValueError):
            found: dict[str, Any] = json.loads(line)
            return found
    raise commands_here.KitError(f"the log of the master has no figures: {log[-2000:]}")


def disturb(asked: Asked, fleet: Release, folder: Path) -> None:
    """Make all chosen disturbances one after the other; raises KitError if one does not recover."""
    acts = [each for each in ("delete", "kill") if each in asked.faults]
    if acts:
        Trial(fleet, folder).disturb("--acts", *acts)
    if "freeze" in asked.faults and (cluster := cluster_guard.made_here()):
        pod = fleet.pods("coordinator")[0]["metadata"]["name"]
        with crashes.frozen(cluster, fleet.namespace, pod):
            time.sleep(FREEZE_S)
        commands_here.say(f"freeze {pod}: for {FREEZE_S:g} s")
        fleet.wait_ready(timeout_s=READY_S)
    for each in ROLLED if "roll" in asked.faults else ():
        name, begun_s = each.format(fleet.name), time.monotonic()
        fleet.kubernetes("rollout", "restart", name)
        _until_rolled(fleet, name)
        fleet.wait_ready(timeout_s=READY_S)
        commands_here.say(f"restart {name}: recovered after {time.monotonic() - begun_s:.1f} s")
    if "renew" in asked.faults:
        began, begun_s = dt.datetime.now(dt.UTC), time.monotonic()

        def all_renewed() -> bool:
            wanted = {pod["metadata"]["name"] for each in CERTIFIED for pod in fleet.pods(each)}
            return wanted <= renewed(fleet, began)

        commands_here.until("every certificate is renewed", all_renewed, timeout_s=asked.life_s)
        commands_here.say(
            f"renew: every pod has a new certificate after {time.monotonic() - begun_s:.0f} s"
        )


def renewed(fleet: Release, since: dt.datetime) -> set[str]:
    """Return the names of the pods that have got a certificate for a request made after `since`.

    Each request contains the pod's identity as a URI, and the pod's name is one part of this URI.
    The returned set contains all parts of the URIs, so it also has words that are no pod's name.
    """
    names = set()
    for asked in fleet.kubernetes.get("certificatesigningrequests")["items"]:
        created = dt.datetime.fromisoformat(asked["metadata"]["creationTimestamp"])
        if created > since and asked.get("status", {}).get("certificate"):
            request = x509.load_pem_x509_csr(base64.b64decode(asked["spec"]["request"]))
            kinds = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            for uri in kinds.get_values_for_type(x509.UniformResourceIdentifier):
                names |= set(uri.split("/"))  # one of these parts is the pod's name
    return names


def _until_rolled(fleet: Release, name: str) -> None:
    words = ("rollout", "status", name, "--timeout=15s")

    def rolled() -> bool:
        with suppress(commands_here.KitError):  # kubectl may time out during a restart
            fleet.kubernetes(*words)
            return True
        return False

    commands_here.until(f"{name} is restarted", rolled, timeout_s=READY_S)


@contextmanager
def installed(asked: Asked) -> Iterator[tuple[Release, Load]]:
    """Install a fleet that admits the users of the load; uninstall it at the end of the block.

    Return the fleet and a `Load` for it. The chart of the load is not installed yet.
    """
    with a_namespace() as here, a_namespace() as there:
        fleet = Release(here, values=fleet_values(asked, there.namespace))
        fleet.install()
        try:
            took = fleet.wait_ready(timeout_s=READY_S)
            commands_here.say(f"a fleet of {len(took)} pods is ready")
            example_application.label(there, fleet)
            yield fleet, Load(there)
        finally:
            fleet.uninstall()


def run(asked: Asked, folder: Path) -> int:
    """Load the fleet, disturb it and check the figures; return the exit code."""
    with installed(asked) as (fleet, load):
        load.install(load_values(asked, fleet))
        try:
            commands_here.until("every user is connected", load.begun, timeout_s=BEGIN_S)
            begun_s = time.monotonic()
            disturb(asked, fleet, folder)
            took_s = time.monotonic() - begun_s
            early = load.ended()
            end_s = max(0.0, asked.seconds - took_s) + END_S
            how = commands_here.eventually("the load has ended", load.ended, bool, timeout_s=end_s)
        except commands_here.KitError:
            commands_here.say(load.log("worker", 30))
            raise
        finally:
            log = load.log()
            commands_here.say(log)
            load.uninstall()
    figures = told(log)
    commands_here.say(
        f"all disturbances took {took_s:.0f} s of {asked.seconds:g} s; the Job is {how}"
    )
    if asked.faults and early:
        commands_here.say(
            "does not hold: the load ended before the last disturbance; raise --seconds"
        )
        return 1
    return 0 if how == "Complete" and not figures["failures"] else 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "python -m tests.cluster.loadtest_release", description=__doc__, formatter_class=shown
    )
    root.add_argument("--users", type=int, default=300)
    root.add_argument("--rate", type=float, default=60.0, help="requests a second")
    root.add_argument("--seconds", type=float, default=780.0, help="length of the load")
    root.add_argument("--workers", type=int, default=2)
    root.add_argument(
        "--life-s", type=int, default=LIFE_S, help="life of certificates, 600 or more"
    )
    root.add_argument("--faults", nargs="*", choices=[*FAULTS, "none"], default=list(FAULTS))
    root.add_argument("--threshold", action="append", help="such as match.p99<=50ms")
    return root


def main() -> int:
    """Run the load in KUBECONFIG's cluster; return the exit code."""
    given = parser().parse_args()
    asked = Asked(
        given.users,
        given.rate,
        given.seconds,
        given.workers,
        [each for each in given.faults if each != "none"],
        given.threshold or ["failures<=0%"],
        given.life_s,
    )
    try:
        cluster_guard.check()
        with tempfile.TemporaryDirectory(prefix="midstreamer-loaded-") as folder:
            return run(asked, Path(folder))
    except commands_here.KitError as error:
        sys.stderr.write(f"loaded: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
