"""Plan the disturbances of an installation under load, and decide when it has recovered.  Pure.

First all pods of all components but the database are deleted, one after the other.  When this is
done, all are killed, one after the other.  Then the same is done with the pods of the database.
Then processes of the cluster itself are killed and started again.
A step does not name its pod, because a Deployment's new pods have new names.  `chosen` picks the
pod when the step begins: for a deletion the oldest, so that each pod is deleted once, and for a
kill the next in the order of names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.cluster import crashes
from tests.cluster.load_judgement import Kind
from tests.cluster.releases import COMPONENT, is_ready

COMPONENTS = ("agent", "coordinator", "sync", "operator")
DATABASE = "postgres"
PROCESSES = ("node-0-containerd", "node-0-kubelet", "kube-apiserver")
"""Processes of the cluster that a plan restarts, by the names that the kit gives them."""


class Refused(ValueError):
    """A plan or step is impossible, because a pod is missing; the message says which."""


class Act(StrEnum):
    """What a step does to a pod of a release or to a process of the cluster."""

    DELETE = "delete"
    """Delete a pod through the API server: the pod gets SIGTERM and drains."""
    KILL = "kill"
    """Send SIGKILL to all processes in a pod's containers."""
    RESTART = "restart"
    """Send SIGKILL to a process of the cluster, and start it again with the same command."""

    @property
    def kind(self) -> Kind:
        """The kind of event that this act causes. The kind sets the latency limit of requests."""
        return Kind.DELETION if self is Act.DELETE else Kind.CRASH


@dataclass(frozen=True)
class Step:
    """One step of a plan: what to do, and to which component or process."""

    act: Act
    target: str
    """The name of a component, or of a process of the cluster."""
    ordinal: int = 0
    """For a kill, which pod of the component: its index in the order of pod names."""


@dataclass(frozen=True)
class Pod:
    """The state of a pod, as far as plans of disturbances need it."""

    name: str
    component: str
    uid: str
    created: str
    """The time at which the pod was created, in ISO 8601 with a resolution of one second."""
    ready: bool
    going: bool
    """Whether the pod was deleted and is terminating."""
    running: frozenset[str]
    """The ids of the pod's running containers."""


def plan(
    counts: Mapping[str, int],
    *,
    acts: Collection[Act] = tuple(Act),
    components: Sequence[str] = (*COMPONENTS, DATABASE),
    processes: Sequence[str] = PROCESSES,
) -> list[Step]:
    """Return all steps in order; `counts` has the number of pods of each component.

    Raises Refused when a component has no pod.
    """
    for name in components:
        if not counts.get(name):
            found = ", ".join(f"{count} {each}" for each, count in sorted(counts.items()))
            raise Refused(
                f"there is no pod with {COMPONENT}={name} to disturb; pods found:"
                f" {found or 'none'}; name only components that have pods"
            )
    steps = []
    for group in (
        [c for c in components if c != DATABASE],
        [c for c in components if c == DATABASE],
    ):
        steps += [
            Step(act, name, ordinal)
            for act in (Act.DELETE, Act.KILL)
            for name in group
            for ordinal in range(counts[name])
        ]
    steps += [Step(Act.RESTART, name) for name in processes]
    return [step for step in steps if step.act in acts]


def pods_of(listing: Mapping[str, Any]) -> list[Pod]:
    """Return the pods of a PodList, without those that have succeeded or failed."""
    return [
        _pod(each)
        for each in listing["items"]
        if each.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def _pod(found: Mapping[str, Any]) -> Pod:
    metadata = found["metadata"]
    return Pod(
        metadata["name"],
        metadata.get("labels", {}).get(COMPONENT, ""),
        metadata["uid"],
        metadata["creationTimestamp"],
        is_ready(found),
        "deletionTimestamp" in metadata,
        crashes.containers(dict(found)),
    )


def counted(pods: Iterable[Pod]) -> dict[str, int]:
    """Return the number of pods of each component; terminating pods are not counted."""
    return dict(Counter(pod.component for pod in pods if not pod.going))


def chosen(step: Step, pods: Iterable[Pod]) -> Pod:
    """Return the pod that a step disturbs; raises Refused when there is none."""
    candidates = [pod for pod in pods if pod.component == step.target and not pod.going]
    candidates.sort(
        key=lambda pod: (pod.created, pod.name) if step.act is Act.DELETE else (pod.name,)
    )
    at = 0 if step.act is Act.DELETE else step.ordinal
    if at >= len(candidates):
        raise Refused(
            f"there is no pod number {at + 1} of {step.target} to {step.act}: {step.target} has"
            f" {len(candidates)} pod(s)"
        )
    return candidates[at]


def missing(
    pods: Sequence[Pod],
    wanted: Mapping[str, int],
    disturbed: Pod | None = None,
    incomplete: Collection[str] = (),
) -> str:
    """Return why the installation has not recovered; empty when it has.

    It has recovered when each component has the wanted number of pods, all pods are ready, and
    `incomplete` is empty.  Also, a pod that was deleted must be gone, and a pod that was killed
    must no longer run any of the containers that it had before.
    """
    for name, count in wanted.items():
        matching = [pod for pod in pods if pod.component == name and not pod.going]
        ready = sum(pod.ready for pod in matching)
        if ready != count or len(matching) != count:
            waiting = [pod.name for pod in matching if not pod.ready]
            detail = f"; not ready: {', '.join(waiting)}" if waiting else ""
            return f"{ready} of {count} {name} pods are ready{detail}"
    if disturbed:
        left = next((pod for pod in pods if pod.uid == disturbed.uid), None)
        if left and (left.going or left.running & disturbed.running):
            return f"{left.name} still {'terminates' if left.going else 'runs old containers'}"
    return f"not complete: {', '.join(sorted(incomplete))}" if incomplete else ""
