"""A fleet in a cluster under the load of `charts/midstreamer-loadtest`, while everything happens.

    python -m tests.cluster.loaded --users 300 --rate 60 --seconds 780
    python -m tests.cluster.loaded --users 20 --seconds 30 --faults none

It works in KUBECONFIG's cluster, which must be marked for tests and have the images.  A fleet with
raised limits is installed, and the chart that loads it.  Meanwhile, one after the other: each pod
of each kind is deleted, each is killed, one coordinator is frozen for some seconds, each Deployment
and StatefulSet is restarted, and then every pod renews its certificate, which lives for ten minutes
only; so do the users.  It ends with 0 when the master's Job succeeded: no request failed.
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

from tests.cluster import crashes, example, host, mark, releases
from tests.cluster.conftest import a_namespace
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.cluster.trials import Trial

CHART = Path(__file__).parents[2] / "charts/midstreamer-loadtest"
NAME = "load"
LIFE_S = 600
"""Of certificates, the least that the operator gives; they are renewed after two thirds."""
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
    """What is loaded, and how long."""

    users: int
    rate: float
    seconds: float
    workers: int
    faults: Sequence[str]
    thresholds: Sequence[str]
    life_s: int = LIFE_S


def fleet_values(asked: Asked, loads: str) -> dict[str, Any]:
    """What the fleet is installed with: room for all users, and short certificates."""
    return {
        "allowlist": list(ALLOWED),
        "clients": {"namespaces": [loads]},
        "config": {"limits": {"links_max": 2 * asked.users + 64}},
        "operator": {"certificateLifeSeconds": asked.life_s},
    }


def load_values(asked: Asked, fleet: Release) -> dict[str, Any]:
    """What the chart that loads is installed with."""
    made: dict[str, Any] = {
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
        made["networkPolicies"] = {"apiServer": given["apiServer"]}
    return made


class Load:
    """The Jobs of the chart in a namespace of their own."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes = kubernetes
        self.job = f"{NAME}-master-1"

    def install(self, values: Mapping[str, Any]) -> None:
        """Install the chart; raises KitError with Helm's complaint."""
        words = ["install", NAME, str(CHART), "--namespace", self.kubernetes.namespace]
        host.run([mark.helm(), *words, "--values", "-"], stdin=json.dumps(values))

    def uninstall(self) -> None:
        """Take it away: its rights are in the fleet's namespace."""
        words = ["uninstall", NAME, "--namespace", self.kubernetes.namespace, "--wait"]
        host.run([mark.helm(), *words])

    def log(self, part: str = "master", tail: int = 80) -> str:
        """What the pods of a part have said; nothing while they are made."""
        try:
            selector = f"midstreamer.dev/part={part}"
            return self.kubernetes("logs", f"--selector={selector}", f"--tail={tail}")
        except host.KitError:
            return ""

    def ended(self) -> str:
        """How the master's Job has ended: Complete or Failed; empty while it runs."""
        status = self.kubernetes.get(f"job/{self.job}").get("status", {})
        kinds = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
        return next((each for each in ("Complete", "Failed") if each in kinds), "")

    def begun(self) -> bool:
        """Whether requests are asked: every user is there."""
        return bool(re.search(r"^loading", self.log(), re.MULTILINE)) or bool(self.ended())


def told(log: str) -> dict[str, Any]:
    """The line of JSON at the end of a master's log; raises KitError without one."""
    for line in reversed(log.splitlines()):
        with suppress(ValueError):
            found: dict[str, Any] = json.loads(line)
            return found
    raise host.KitError(f"the master left no figures: {log[-2000:]}")


def disturb(asked: Asked, fleet: Release, folder: Path) -> None:
    """Everything that is to happen, one after the other; raises KitError when it does not mend."""
    acts = [each for each in ("delete", "kill") if each in asked.faults]
    if acts:
        Trial(fleet, folder).disturb("--acts", *acts)
    if "freeze" in asked.faults and (cluster := mark.made_here()):
        pod = fleet.pods("coordinator")[0]["metadata"]["name"]
        with crashes.frozen(cluster, fleet.namespace, pod):
            time.sleep(FREEZE_S)
        host.say(f"freeze {pod}: for {FREEZE_S:g} s")
        fleet.wait_ready(timeout_s=READY_S)
    for each in ROLLED if "roll" in asked.faults else ():
        name, begun_s = each.format(fleet.name), time.monotonic()
        fleet.kubernetes("rollout", "restart", name)
        _until_rolled(fleet, name)
        fleet.wait_ready(timeout_s=READY_S)
        host.say(f"restart {name}: whole again after {time.monotonic() - begun_s:.1f} s")
    if "renew" in asked.faults:
        began, begun_s = dt.datetime.now(dt.UTC), time.monotonic()

        def all_renewed() -> bool:
            wanted = {pod["metadata"]["name"] for each in CERTIFIED for pod in fleet.pods(each)}
            return wanted <= renewed(fleet, began)

        host.until("every leaf is renewed", all_renewed, timeout_s=asked.life_s)
        host.say(f"renew: every pod has another leaf after {time.monotonic() - begun_s:.0f} s")


def renewed(fleet: Release, since: dt.datetime) -> set[str]:
    """Pods whose signing request was made and answered with a certificate since then."""
    names = set()
    for asked in fleet.kubernetes.get("certificatesigningrequests")["items"]:
        made = dt.datetime.fromisoformat(asked["metadata"]["creationTimestamp"])
        if made > since and asked.get("status", {}).get("certificate"):
            request = x509.load_pem_x509_csr(base64.b64decode(asked["spec"]["request"]))
            kinds = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            for uri in kinds.get_values_for_type(x509.UniformResourceIdentifier):
                names |= set(uri.split("/"))  # the name of a pod is followed by its uid
    return names


def _until_rolled(fleet: Release, name: str) -> None:
    words = ("rollout", "status", name, "--timeout=15s")

    def rolled() -> bool:
        with suppress(host.KitError):  # a request of kubectl may take 20 s, a restart longer
            fleet.kubernetes(*words)
            return True
        return False

    host.until(f"{name} is restarted", rolled, timeout_s=READY_S)


@contextmanager
def installed(asked: Asked) -> Iterator[tuple[Release, Load]]:
    """A fleet that lets the load in, and a namespace for it."""
    with a_namespace() as here, a_namespace() as there:
        fleet = Release(here, values=fleet_values(asked, there.namespace))
        fleet.install()
        try:
            took = fleet.wait_ready(timeout_s=READY_S)
            host.say(f"a fleet of {len(took)} pods is ready")
            example.label(there, fleet)
            yield fleet, Load(there)
        finally:
            fleet.uninstall()


def run(asked: Asked, folder: Path) -> int:
    """Load, disturb, judge; the exit code."""
    with installed(asked) as (fleet, load):
        load.install(load_values(asked, fleet))
        try:
            host.until("every user is there", load.begun, timeout_s=BEGIN_S)
            begun_s = time.monotonic()
            disturb(asked, fleet, folder)
            took_s = time.monotonic() - begun_s
            early = load.ended()
            end_s = max(0.0, asked.seconds - took_s) + END_S
            how = host.eventually("the load has ended", load.ended, bool, timeout_s=end_s)
        except host.KitError:
            host.say(load.log("worker", 30))
            raise
        finally:
            log = load.log()
            host.say(log)
            load.uninstall()
    figures = told(log)
    host.say(f"everything happened within {took_s:.0f} of {asked.seconds:g} s: {how}")
    if asked.faults and early:
        host.say(
            "does not hold: the load ended before everything had happened; give more --seconds"
        )
        return 1
    return 0 if how == "Complete" and not figures["failures"] else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        "python -m tests.cluster.loaded", description=__doc__, formatter_class=shown
    )
    made.add_argument("--users", type=int, default=300)
    made.add_argument("--rate", type=float, default=60.0, help="requests a second")
    made.add_argument("--seconds", type=float, default=780.0, help="of the load")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--life-s", type=int, default=LIFE_S, help="of certificates, 600 or more")
    made.add_argument("--faults", nargs="*", choices=[*FAULTS, "none"], default=list(FAULTS))
    made.add_argument("--threshold", action="append", help="as match.p99<=50ms")
    return made


def main() -> int:
    """Load KUBECONFIG's cluster."""
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
        mark.check()
        with tempfile.TemporaryDirectory(prefix="midstreamer-loaded-") as folder:
            return run(asked, Path(folder))
    except host.KitError as error:
        sys.stderr.write(f"loaded: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
