"""Disturb an installation under load, one thing after the other, and write down when.

    python -m tests.cluster.disturbing --namespace N --release R --write events.jsonl
    … --acts delete --components agent sync        deletions alone, of these kinds alone

`disturbances` says what is done and in which order.  After each step the installation must be
whole again before the next begins: all pods ready, nothing of the disturbed one left, and agents,
coordinators and syncs say at /completez that nothing is missing to them; and it must stay so for
a while.  Until then it is the time of this event.  Deletions work in any cluster that is marked
for tests; kills and restarts reach into the processes of a cluster that `make cluster` made.

It ends with 0 when everything became whole again, 1 when something did not within --within-s (then
no further step is made), 2 when it could not begin.  The load runs beside it: `tests.cluster.load`;
`tests.cluster.report` puts both together.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import quote

from tests.cluster import apiproxy, crashes, disturbances, events, host, mark, names, up
from tests.cluster.apiproxy import Api, Away
from tests.cluster.disturbances import COMPONENTS, DATABASE, PROCESSES, Act, Pod, Step
from tests.cluster.events import Event
from tests.cluster.releases import INSTANCE

POLL_S = 0.2
WITHIN_S = 120.0
REST_S, RESTART_REST_S = 3.0, 10.0
"""So long everything must stay whole; a kubelet that is new judges pods again only by and by."""
CALM_S = 5.0
HEALTH_PORT = 9090
COMPLETE = ("agent", "coordinator", "sync")
"""Kinds that say at /completez whether anything is missing to them."""


class Hands(Protocol):
    """What is looked at and done."""

    def pods(self) -> list[Pod]:
        """The pods of the installation; raises Away, KitError."""

    def incomplete(self, pods: Sequence[Pod]) -> list[str]:
        """Names of those that say that something is missing; raises Away."""

    def delete(self, pod: Pod) -> None:
        """Delete a pod; raises KitError."""

    def kill(self, pod: Pod) -> None:
        """SIGKILL to all in a pod's containers; raises KitError."""

    def restart(self, process: str) -> None:
        """SIGKILL to a process of the cluster, and start it again; raises KitError."""


@dataclass
class InCluster:
    """Hands in a namespace of KUBECONFIG's cluster."""

    api: Api
    namespace: str
    release: str
    cluster: names.Cluster | None
    """The kit's cluster, for kills and restarts."""
    health_port: int = HEALTH_PORT
    """0: nobody is asked whether anything is missing."""

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace)}/pods"

    def pods(self) -> list[Pod]:
        """See `Hands`."""
        selector = quote(f"{INSTANCE}={self.release}")
        return disturbances.pods_of(self.api.get(f"{self._pods}?labelSelector={selector}"))

    def incomplete(self, pods: Sequence[Pod]) -> list[str]:
        """See `Hands`."""
        asked = [pod for pod in pods if self.health_port and pod.component in COMPLETE]
        return [pod.name for pod in asked if not pod.going and not self._complete(pod)]

    def _complete(self, pod: Pod) -> bool:
        path = f"{self._pods}/{pod.name}:{self.health_port}/proxy/completez"
        return self.api.ask("GET", path)[0] == 200

    def delete(self, pod: Pod) -> None:
        """See `Hands`."""
        self.api.delete(f"{self._pods}/{pod.name}")

    def kill(self, pod: Pod) -> None:
        """See `Hands`."""
        crashes.kill_pod(self._kit(), self.namespace, pod.name)

    def restart(self, process: str) -> None:
        """See `Hands`."""
        up.restart(self._kit(), process, signal.SIGKILL)

    def _kit(self) -> names.Cluster:
        if self.cluster is None:
            raise host.KitError("kills and restarts need a cluster that `make cluster` made")
        return self.cluster


@dataclass
class Disturber:
    """Makes one step after the other, and waits in between until all is whole again."""

    hands: Hands
    wanted: Mapping[str, int]
    """How many pods there are of each component."""
    within_s: float = WITHIN_S
    rest_s: float = REST_S
    restart_rest_s: float = RESTART_REST_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def perform(self, step: Step) -> Event:
        """Do it, and wait; an event with a complaint when it was not whole again in time."""
        from_s, done = self.clock(), str(step.act)
        name, disturbed = f"{done} {step.target}", None
        try:
            if step.act is Act.RESTART:
                self.hands.restart(step.target)
            else:
                disturbed = disturbances.chosen(step, self.hands.pods())
                name, from_s = f"{done} {disturbed.name}", self.clock()
                act = self.hands.delete if step.act is Act.DELETE else self.hands.kill
                act(disturbed)
            rest_s = self.restart_rest_s if step.act is Act.RESTART else self.rest_s
            complaint = self.wait(disturbed, rest_s)
        except (host.KitError, disturbances.Refused) as error:
            complaint = str(error)
        return Event(name, step.act.kind, from_s, self.clock(), complaint)

    def wait(self, disturbed: Pod | None, rest_s: float) -> str:
        """Wait until all was whole for `rest_s`; says what is missing when it takes too long."""
        began_s, whole_s = self.clock(), None
        while True:
            told, now_s = self._missing(disturbed), self.clock()
            if told:
                whole_s = None
                if now_s - began_s > self.within_s:
                    return f"not whole again after {self.within_s:g} s: {told}"
            else:
                whole_s = now_s if whole_s is None else whole_s
                if now_s - whole_s >= rest_s:
                    return ""
            self.sleep(POLL_S)

    def _missing(self, disturbed: Pod | None) -> str:
        try:
            pods = self.hands.pods()
            told = disturbances.missing(pods, self.wanted, disturbed)
            if told:
                return told
            lacking = self.hands.incomplete(pods)
            return disturbances.missing(pods, self.wanted, disturbed, lacking)
        except Away as error:
            return str(error)


def disturb(
    disturber: Disturber, steps: Sequence[Step], file: IO[str], say: Callable[[str], None]
) -> list[str]:
    """Make all steps and write each event at once; stops at the first complaint and returns it."""
    if told := disturber.wait(None, 0.0):
        return [f"before the first step: {told}"]
    for number, step in enumerate(steps, start=1):
        event = disturber.perform(step)
        file.write(events.line(event))
        file.flush()
        how = event.complaint or f"whole again after {event.to_s - event.from_s:.1f} s"
        say(f"{number} of {len(steps)}: {event.name}: {how}")
        if event.complaint:
            return [f"{event.name}: {event.complaint}"]
    return []


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    shown = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        "python -m tests.cluster.disturbing", description=__doc__, formatter_class=shown
    )
    made.add_argument("--namespace", required=True)
    made.add_argument("--release", required=True, help=f"as in {INSTANCE}")
    made.add_argument("--write", required=True, type=Path, help="file of events, replaced")
    made.add_argument("--acts", nargs="+", type=Act, choices=list(Act), default=list(Act))
    made.add_argument("--components", nargs="+", default=[*COMPONENTS, DATABASE])
    made.add_argument("--processes", nargs="*", default=list(PROCESSES))
    made.add_argument("--within-s", type=float, default=WITHIN_S, help="until whole again")
    made.add_argument("--rest-s", type=float, default=REST_S, help="it must stay whole so long")
    made.add_argument("--calm-s", type=float, default=CALM_S, help="before the first step")
    made.add_argument("--health-port", type=int, default=HEALTH_PORT, help="0: ask nobody")
    return made


def kit_cluster(arguments: argparse.Namespace) -> names.Cluster | None:
    """The kit's cluster that KUBECONFIG names; raises KitError when one is needed."""
    cluster = mark.made_here()
    if cluster is None and set(arguments.acts) & {Act.KILL, Act.RESTART}:
        raise host.KitError(
            f"KUBECONFIG={os.environ.get('KUBECONFIG', '')} is no file of a cluster that"
            " `make cluster` made here, and kills and restarts reach into its processes: take"
            " --acts delete"
        )
    return cluster


def main() -> int:
    """Disturb; returns the exit code."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and the proxy ends
    try:
        mark.check()
        cluster = kit_cluster(arguments)
        with (
            arguments.write.open("w", encoding="utf-8") as file,
            apiproxy.proxied(mark.kubectl()) as api,
        ):
            hands = InCluster(
                api, arguments.namespace, arguments.release, cluster, arguments.health_port
            )
            wanted = disturbances.counted(hands.pods())
            steps = disturbances.plan(
                wanted,
                acts=arguments.acts,
                components=arguments.components,
                processes=arguments.processes,
            )
            told = ", ".join(f"{count} {name}" for name, count in sorted(wanted.items()))
            host.say(f"{len(steps)} steps on {told}")
            time.sleep(arguments.calm_s)
            disturber = Disturber(hands, wanted, arguments.within_s, arguments.rest_s)
            broken = disturb(disturber, steps, file, host.say)
    except (host.KitError, names.NameRefused, disturbances.Refused, OSError) as error:
        sys.stderr.write(f"disturbing: {error}\n")
        return 2
    for each in broken:
        host.say(f"does not hold: {each}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("disturbing: interrupted; the events until now are written")
