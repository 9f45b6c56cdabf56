"""What is done to an installation under load, in which order, and when it is whole again.  Pure.

First each pod of each kind is deleted in turn, then each is killed, then the same with the
database; then processes of the cluster itself are killed and started again.  A step names no pod:
pods of a Deployment have other names after each deletion.  `chosen` picks one when its turn has
come: the oldest for a deletion, so that each pod is deleted once, and by name for a kill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.cluster import crashes
from tests.cluster.events import Kind
from tests.cluster.releases import COMPONENT, is_ready

COMPONENTS = ("agent", "coordinator", "sync", "operator")
DATABASE = "postgres"
PROCESSES = ("node-0-containerd", "node-0-kubelet", "kube-apiserver")
"""As the cluster kit calls them."""


class Refused(ValueError):
    """A plan that cannot be made; the message says what is missing."""


class Act(StrEnum):
    """What is done."""

    DELETE = "delete"
    """A pod, by the API server: it is told, and drains."""
    KILL = "kill"
    """SIGKILL to all in a pod's containers."""
    RESTART = "restart"
    """SIGKILL to a process of the cluster, which is then started as it was."""

    @property
    def kind(self) -> Kind:
        """By which limit its requests are judged."""
        return Kind.DELETION if self is Act.DELETE else Kind.CRASH


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    act: Act
    target: str
    """A component, or a process of the cluster."""
    ordinal: int = 0
    """Which pod of the component."""


@dataclass(frozen=True)
class Pod:
    """What matters of a pod."""

    name: str
    component: str
    uid: str
    created: str
    """ISO 8601, to the second."""
    ready: bool
    going: bool
    """Whether it was deleted and ends."""
    running: frozenset[str]
    """Ids of its containers that run."""


def plan(
    counts: Mapping[str, int],
    *,
    acts: Collection[Act] = tuple(Act),
    components: Sequence[str] = (*COMPONENTS, DATABASE),
    processes: Sequence[str] = PROCESSES,
) -> list[Step]:
    """All steps in order, for so many pods of each component; Refused when one has none."""
    for name in components:
        if not counts.get(name):
            there = ", ".join(f"{count} {each}" for each, count in sorted(counts.items()))
            raise Refused(
                f"there is no pod with {COMPONENT}={name} to disturb: there are {there or 'none'};"
                " name the components that there are"
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
    """The pods of a PodList that have not ended."""
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
    """How many pods of each component there are that stay."""
    return dict(Counter(pod.component for pod in pods if not pod.going))


def chosen(step: Step, pods: Iterable[Pod]) -> Pod:
    """The pod of which it is the turn; Refused when there is none."""
    there = [pod for pod in pods if pod.component == step.target and not pod.going]
    there.sort(key=lambda pod: (pod.created, pod.name) if step.act is Act.DELETE else (pod.name,))
    at = 0 if step.act is Act.DELETE else step.ordinal
    if at >= len(there):
        raise Refused(f"there is no pod {at + 1} of {step.target} to {step.act}: {len(there)} stay")
    return there[at]


def missing(
    pods: Sequence[Pod],
    wanted: Mapping[str, int],
    disturbed: Pod | None = None,
    incomplete: Collection[str] = (),
) -> str:
    """Why the installation is not whole; empty when it is.

    Whole means: of each component so many pods as wanted stay and are ready, none is `incomplete`,
    and nothing is left of the disturbed one: neither the deleted pod nor the killed containers.
    """
    for name, count in wanted.items():
        there = [pod for pod in pods if pod.component == name and not pod.going]
        ready = sum(pod.ready for pod in there)
        if ready != count or len(there) != count:
            waiting = [pod.name for pod in there if not pod.ready]
            told = f"; not ready: {', '.join(waiting)}" if waiting else ""
            return f"{ready} of {count} {name} pods are ready{told}"
    if disturbed:
        left = next((pod for pod in pods if pod.uid == disturbed.uid), None)
        if left and (left.going or left.running & disturbed.running):
            return f"{left.name} is still {'ending' if left.going else 'as it was'}"
    return f"something is missing to {', '.join(sorted(incomplete))}" if incomplete else ""
