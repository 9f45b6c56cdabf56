"""Disturb an installation under load, one step after the other, and record the times.

    python -m tests.cluster.disturb --namespace N --release R --write events.jsonl
    … --acts delete --components agent sync        only delete pods of these components

`tests.cluster.disturbance_plan` plans the steps.  After each step the installation must recover
before the next step begins: all pods are ready, the disturbed pod or its containers are gone, and
agents, coordinators and syncs report at /completez that they are complete.  It must then stay
recovered for --rest-s seconds; after the restart of a process, for 10 s.  The event ends when this
time is over.  Deletions work in any cluster that is marked for tests.  Kills and restarts need a
cluster that `make cluster` made, because they send signals to its processes.

The exit code is 0 when the installation recovered from every step.  It is 1 when a step failed or
the installation did not recover within --within-s seconds; then no further step is made.  It is 2
when the steps could not begin.  Run the load, `tests.cluster.load`, at the same time;
`tests.cluster.disturbance_report` combines both results.
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

from tests.cluster import (
    api_requests,
    cluster_guard,
    commands_here,
    crashes,
    disturbance_plan,
    load_judgement,
    names,
    up,
)
from tests.cluster.api_requests import Api, Away
from tests.cluster.disturbance_plan import COMPONENTS, DATABASE, PROCESSES, Act, Pod, Step
from tests.cluster.load_judgement import Event
from tests.cluster.releases import INSTANCE

POLL_S = 0.2
WITHIN_S = 120.0
REST_S, RESTART_REST_S = 3.0, 10.0
"""For how many seconds an installation must stay recovered, after a pod's end and after a restart.

After the restart of a process of the cluster the time is longer, because a new kubelet needs some
seconds to probe all pods again.
"""
CALM_S = 5.0
HEALTH_PORT = 9090
COMPLETE = ("agent", "coordinator", "sync")
"""The components that report at /completez whether they are complete."""


class Hands(Protocol):
    """Access to an installation for a `Disturber`: it observes the pods and disturbs them."""

    def pods(self) -> list[Pod]:
        """Return the pods of the installation; raises Away, KitError."""

    def incomplete(self, pods: Sequence[Pod]) -> list[str]:
        """Return the names of the pods that /completez reports as not complete; raises Away."""

    def delete(self, pod: Pod) -> None:
        """Delete a pod; raises KitError when that fails."""

    def kill(self, pod: Pod) -> None:
        """Send SIGKILL to all processes in a pod's containers; raises KitError when that fails."""

    def restart(self, process: str) -> None:
        """Send SIGKILL to a process of the cluster, and start it again.

        Raises KitError when that fails.
        """


@dataclass
class InCluster:
    """Access to a release in a namespace of KUBECONFIG's cluster (see `Hands`)."""

    api: Api
    namespace: str
    release: str
    cluster: names.Cluster | None
    """The cluster if `make cluster` made it, else None: then kills and restarts are impossible."""
    health_port: int = HEALTH_PORT
    """The port at which pods answer /completez; 0 means that no pod is asked."""

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace)}/pods"

    def pods(self) -> list[Pod]:
        """Return the pods of the release; raises Away, KitError."""
        selector = quote(f"{INSTANCE}={self.release}")
        return disturbance_plan.pods_of(self.api.get(f"{self._pods}?labelSelector={selector}"))

    def incomplete(self, pods: Sequence[Pod]) -> list[str]:
        """Return the names of the pods that do not answer 200 at /completez; raises Away."""
        asked = [pod for pod in pods if self.health_port and pod.component in COMPLETE]
        return [pod.name for pod in asked if not pod.going and not self._complete(pod)]

    def _complete(self, pod: Pod) -> bool:
        path = f"{self._pods}/{pod.name}:{self.health_port}/proxy/completez"
        return self.api.ask("GET", path)[0] == 200

    def delete(self, pod: Pod) -> None:
        """Delete a pod through the API server; raises Away, KitError."""
        self.api.delete(f"{self._pods}/{pod.name}")

    def kill(self, pod: Pod) -> None:
        """Send SIGKILL to the pod's processes.

        Raises KitError when `make cluster` did not make the cluster, or the kill fails.
        """
        crashes.kill_pod(self._kit(), self.namespace, pod.name)

    def restart(self, process: str) -> None:
        """Kill a process of the cluster, and start it again.

        Raises KitError when `make cluster` did not make the cluster, or the restart fails.
        """
        up.restart(self._kit(), process, signal.SIGKILL)

    def _kit(self) -> names.Cluster:
        if self.cluster is None:
            raise commands_here.KitError(
                "kills and restarts need a cluster that `make cluster` made"
            )
        return self.cluster


@dataclass
class Disturber:
    """Makes steps of a plan, and waits after each step until the installation has recovered."""

    hands: Hands
    wanted: Mapping[str, int]
    """For each component, how many ready pods it has when the installation has recovered."""
    within_s: float = WITHIN_S
    rest_s: float = REST_S
    restart_rest_s: float = RESTART_REST_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def perform(self, step: Step) -> Event:
        """Make a step and wait for recovery; return the event.

        The event has a complaint when the step failed or the installation did not recover in time.
        """
        from_s, done = self.clock(), str(step.act)
        name, disturbed = f"{done} {step.target}", None
        try:
            if step.act is Act.RESTART:
                self.hands.restart(step.target)
            else:
                disturbed = disturbance_plan.chosen(step, self.hands.pods())
                name, from_s = f"{done} {disturbed.name}", self.clock()
                act = self.hands.delete if step.act is Act.DELETE else self.hands.kill
                act(disturbed)
            rest_s = self.restart_rest_s if step.act is Act.RESTART else self.rest_s
            complaint = self.wait(disturbed, rest_s)
        except (commands_here.KitError, disturbance_plan.Refused) as error:
            complaint = str(error)
        return Event(name, step.act.kind, from_s, self.clock(), complaint)

    def wait(self, disturbed: Pod | None, rest_s: float) -> str:
        """Wait until the installation has stayed recovered for `rest_s` seconds; return "".

        When it has not recovered after `within_s` seconds, return what is missing.
        """
        began_s, whole_s = self.clock(), None
        while True:
            complaint, now_s = self._missing(disturbed), self.clock()
            if complaint:
                whole_s = None
                if now_s - began_s > self.within_s:
                    return f"not recovered after {self.within_s:g} s: {complaint}"
            else:
                whole_s = now_s if whole_s is None else whole_s
                if now_s - whole_s >= rest_s:
                    return ""
            self.sleep(POLL_S)

    def _missing(self, disturbed: Pod | None) -> str:
        try:
            pods = self.hands.pods()
            complaint = disturbance_plan.missing(pods, self.wanted, disturbed)
            if complaint:
                return complaint
            lacking = self.hands.incomplete(pods)
            return disturbance_plan.missing(pods, self.wanted, disturbed, lacking)
        except Away as error:
            return str(error)


def disturb(
    disturber: Disturber, steps: Sequence[Step], file: IO[str], say: Callable[[str], None]
) -> list[str]:
    """Make the steps one after the other, until all are made or an event has a complaint.

    Each event is written to `file` as soon as it has ended.  Return the complaint in a list, which
    is empty when the installation always recovered.
    """
    if complaint := disturber.wait(None, 0.0):
        return [f"before the first step: {complaint}"]
    for number, step in enumerate(steps, start=1):
        event = disturber.perform(step)
        file.write(load_judgement.line(event))
        file.flush()
        how = event.complaint or f"recovered after {event.to_s - event.from_s:.1f} s"
        say(f"{number} of {len(steps)}: {event.name}: {how}")
        if event.complaint:
            return [f"{event.name}: {event.complaint}"]
    return []


# --- the command line -------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    shown = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "python -m tests.cluster.disturb", description=__doc__, formatter_class=shown
    )
    root.add_argument("--namespace", required=True)
    root.add_argument("--release", required=True, help=f"value of the label {INSTANCE}")
    root.add_argument("--write", required=True, type=Path, help="file of events, overwritten")
    root.add_argument("--acts", nargs="+", type=Act, choices=list(Act), default=list(Act))
    root.add_argument("--components", nargs="+", default=[*COMPONENTS, DATABASE])
    root.add_argument("--processes", nargs="*", default=list(PROCESSES))
    root.add_argument("--within-s", type=float, default=WITHIN_S, help="limit of each recovery")
    root.add_argument("--rest-s", type=float, default=REST_S, help="time to stay recovered")
    root.add_argument("--calm-s", type=float, default=CALM_S, help="pause before the first step")
    root.add_argument("--health-port", type=int, default=HEALTH_PORT, help="0: ask no pod")
    return root


def kit_cluster(arguments: argparse.Namespace) -> names.Cluster | None:
    """Return KUBECONFIG's cluster if `make cluster` made it, else None.

    Raises KitError when it is None and the arguments need such a cluster.
    """
    cluster = cluster_guard.made_here()
    if cluster is None and set(arguments.acts) & {Act.KILL, Act.RESTART}:
        raise commands_here.KitError(
            f"KUBECONFIG={os.environ.get('KUBECONFIG', '')} is no file of a cluster that"
            " `make cluster` made here, and kills and restarts need such a cluster: use"
            " --acts delete"
        )
    return cluster


def main() -> int:
    """Make all disturbances of the command line; return the exit code."""
    arguments = parser().parse_args()
    # SIGTERM must end this process by an exception, so that `kubectl proxy` is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        cluster_guard.check()
        cluster = kit_cluster(arguments)
        with (
            arguments.write.open("w", encoding="utf-8") as file,
            api_requests.proxied(cluster_guard.kubectl()) as api,
        ):
            hands = InCluster(
                api, arguments.namespace, arguments.release, cluster, arguments.health_port
            )
            wanted = disturbance_plan.counted(hands.pods())
            steps = disturbance_plan.plan(
                wanted,
                acts=arguments.acts,
                components=arguments.components,
                processes=arguments.processes,
            )
            counts = ", ".join(f"{count} {name}" for name, count in sorted(wanted.items()))
            commands_here.say(f"{len(steps)} steps on {counts}")
            time.sleep(arguments.calm_s)
            disturber = Disturber(hands, wanted, arguments.within_s, arguments.rest_s)
            broken = disturb(disturber, steps, file, commands_here.say)
    except (commands_here.KitError, names.NameRefused, disturbance_plan.Refused, OSError) as error:
        sys.stderr.write(f"disturbing: {error}\n")
        return 2
    for each in broken:
        commands_here.say(f"does not hold: {each}")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("disturbing: interrupted; the events so far are written")
