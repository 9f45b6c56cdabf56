"""What to do about one pool of agents, and what to say of it.

The Deployment is applied whole, by the API server's own merge, when it is not known to be in force.
What was applied is remembered with the generation that came of it: so a change of the pool, of the
template, or of the Deployment by somebody else is seen, and forgetting costs one call.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from midstreamer.domain.errors import BadInput, shortened
from midstreamer_operator.plan import reasons
from midstreamer_operator.resources import deployments
from midstreamer_operator.resources.agentpools import Condition, Pool, Status
from midstreamer_operator.resources.deployments import Deployment
from midstreamer_operator.resources.waiting import Told, Waiter

MESSAGE_CHARACTERS_MAX = 600


class Reason(StrEnum):
    """Why a pool is ready or not, in the spelling of conditions."""

    ALL_READY = "AllReady"
    """As many agents as wanted are ready, each of the present template."""
    STARTING = "Starting"
    """Agents are starting, or leaving, and nothing is known to be in their way."""
    ROLLING = "Rolling"
    """Agents are replaced by ones of the present template."""
    TEMPLATE_MISSING = "TemplateMissing"
    """The chart's PodTemplate is not there, or not the one that the pool waits for."""
    NAME_TAKEN = "NameTaken"
    """A Deployment of the pool's name is there, and is not the pool's."""
    DEPLOYMENT_REFUSED = "DeploymentRefused"
    """The API server refuses the Deployment."""
    PODS_REFUSED = "PodsRefused"
    """The API server refuses the pods: a quota is full, or a policy forbids them."""
    UNSCHEDULABLE = "Unschedulable"
    """No node takes a pod."""
    IMAGE_NOT_PULLED = "ImageNotPulled"
    """The image cannot be pulled."""
    CERTIFICATE_DENIED = "CertificateDenied"
    """A pod was denied a certificate."""
    CRASHING = "Crashing"
    """A container ends again and again."""
    NOT_STARTED = "NotStarted"
    """A container cannot be made: something that it mounts or names is missing."""
    NOT_READY = "NotReady"
    """A pod runs, and says what it waits for."""


MENDING = frozenset({Reason.STARTING, Reason.ROLLING, Reason.NOT_READY})
"""Reasons with which it goes on by itself."""
IMAGE_WORDS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull",
     "RegistryUnavailable", "ImageInspectError"}
)  # fmt: skip
FIXED_WORDS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
DENIALS = frozenset(map(str, reasons.Reason))
MOUNTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
SAID_BY_THE_POD = frozenset({"WaitingForCertificate", "NotReady"})
"""Reasons of the Events that a pod writes about itself (`midstreamer.cluster.pod_reports`)."""


class Applied(NamedTuple):
    """What was applied last, and the generation of the Deployment then."""

    digest: str
    generation: int


@dataclass(frozen=True)
class Seen:
    """What there is of a pool."""

    pool: Pool
    template: Mapping[str, Any] | None = None
    """The chart's PodTemplate."""
    deployment: Deployment | None = None
    """The one of the pool's name, whoever's it is."""
    pods: tuple[Waiter, ...] = ()
    """The pool's pods; only looked at while the Deployment is not whole."""
    events: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    """Warnings about each of them, by name."""
    applied: Applied | None = None
    refusal: str = ""
    """What the API server said when it refused what we wanted of it a moment ago."""


@dataclass(frozen=True)
class Decision:
    """What to do: apply a Deployment, or tell a status, or neither."""

    apply: Mapping[str, Any] | None = None
    status: Status | None = None
    waits: bool = False
    """Whether the pool is worth another look soon."""


class Story(NamedTuple):
    """Why a pool is ready, or is not."""

    reason: Reason
    message: str


def decide(seen: Seen, now_s: float) -> Decision:
    """What to do next about a pool that is not being deleted."""
    if seen.pool.is_going:
        return Decision()
    hindrance = _hindrance(seen)
    if hindrance is None and not seen.refusal:
        assert seen.template is not None  # noqa: S101 - else it is a hindrance
        try:
            made = deployments.wanted(seen.pool, seen.template)
        except BadInput as error:
            hindrance = Story(Reason.TEMPLATE_MISSING, error.message)
        else:
            if not _is_in_force(seen, made):
                return Decision(apply=made, waits=True)
    story = hindrance or _story(seen)
    status = status_of(seen, story, now_s)
    is_news = status != seen.pool.status
    return Decision(status=status if is_news else None, waits=story.reason is not Reason.ALL_READY)


def status_of(seen: Seen, story: Story, now_s: float) -> Status:
    """The status with which the story is told; conditions keep their time while they hold."""
    pool, own = seen.pool, seen.deployment if _is_own(seen) else None
    is_ready = story.reason is Reason.ALL_READY
    is_moving = story.reason in MENDING
    line = shortened(" ".join(story.message.split()), MESSAGE_CHARACTERS_MAX)
    said = {"Ready": is_ready, "Progressing": is_moving}
    return Status(
        observed_generation=pool.generation,
        replicas=own.replicas if own else 0,
        ready_replicas=own.ready if own else 0,
        selector=deployments.selector(pool),
        conditions=tuple(
            _condition(pool, kind, holds, story.reason, line, now_s) for kind, holds in said.items()
        ),
    )


def _condition(
    pool: Pool, type: str, holds: bool, reason: Reason, message: str, now_s: float
) -> Condition:
    status = "True" if holds else "False"
    before = next((each for each in pool.status.conditions if each.type == type), None)
    since = f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    if before is not None and before.status == status:
        since = before.last_transition_time
    return msgspec.convert(
        {
            "type": type,
            "status": status,
            "reason": str(reason),
            "message": message,
            "lastTransitionTime": since,
            "observedGeneration": pool.generation,
        },
        Condition,
    )


def _is_own(seen: Seen) -> bool:
    return seen.deployment is not None and seen.deployment.owner_uid == seen.pool.uid


def _is_in_force(seen: Seen, made: Mapping[str, Any]) -> bool:
    if seen.deployment is None or seen.applied is None:
        return False
    return seen.applied == Applied(deployments.digest(made), seen.deployment.generation)


def _hindrance(seen: Seen) -> Story | None:
    """Why the Deployment cannot even be wanted."""
    spec, name = seen.pool.spec, deployments.template_name(seen.pool.spec.fleet)
    if seen.template is None:
        return Story(
            Reason.TEMPLATE_MISSING,
            f"PodTemplate {name} is not there; `helm upgrade` of release {spec.fleet} brings it",
        )
    found = deployments.revision(seen.template)
    if spec.template_revision and found != spec.template_revision:
        return Story(
            Reason.TEMPLATE_MISSING,
            f"PodTemplate {name} is revision {found or 'unknown'}, and the pool waits for"
            f" {spec.template_revision}; `helm upgrade` of release {spec.fleet} brings both",
        )
    held = seen.deployment
    if held is not None and not _is_own(seen):
        whose = f"belongs to {held.owner}" if held.owner else "belongs to nobody"
        return Story(
            Reason.NAME_TAKEN,
            f"Deployment {held.name} is there and {whose}; delete it, or rename the pool",
        )
    if held is not None and held.is_going:
        return Story(Reason.STARTING, f"an earlier Deployment {held.name} is being deleted")
    return None


def _story(seen: Seen) -> Story:
    """How the Deployment, which is in force, is getting on."""
    if seen.refusal:
        return Story(Reason.DEPLOYMENT_REFUSED, seen.refusal)
    held = seen.deployment
    if held is None or held.observed_generation < held.generation:
        return Story(Reason.STARTING, f"{_count(seen)}; Kubernetes has not taken it up yet")
    if held.is_whole:
        return Story(Reason.ALL_READY, _count(seen))
    if failure := held.told("ReplicaFailure", "True"):
        return Story(Reason.PODS_REFUSED, f"{_count(seen)}: {failure.message}")
    if cause := _cause(seen):
        return Story(cause.reason, f"{_count(seen)}: {cause.message}")
    if held.updated < held.wanted or held.replicas > held.updated:
        new = f"{held.updated} of {held.wanted} of the present template"
        return Story(Reason.ROLLING, f"{_count(seen)}, {new}")
    return Story(Reason.STARTING, _count(seen))


def _count(seen: Seen) -> str:
    ready = seen.deployment.ready if seen.deployment else 0
    wanted = seen.pool.spec.replicas
    return f"{ready} of {wanted} agent{'' if wanted == 1 else 's'} ready"


def _cause(seen: Seen) -> Story | None:
    """What the first pods wait for: what needs somebody comes before what mends by itself."""
    found = [
        story
        for pod in sorted(seen.pods, key=lambda each: each.name)
        if not pod.is_ready and not pod.is_going
        if (story := _waits_for(pod, seen.events.get(pod.name, ())))
    ]
    found.sort(key=lambda story: story.reason in MENDING)
    return found[0] if found else None


def _waits_for(pod: Waiter, events: tuple[Told, ...]) -> Story | None:
    """What one pod waits for, or nothing that is known."""
    warnings = sorted(events, key=lambda each: each.time)
    latest = {each.reason: each.message for each in warnings}
    if pod.unscheduled:
        return Story(Reason.UNSCHEDULABLE, f"no node takes pod {pod.name}: {pod.unscheduled}")
    if pod.waits in IMAGE_WORDS:
        why = latest.get("Failed") or pod.why or pod.waits
        return Story(
            Reason.IMAGE_NOT_PULLED, f"pod {pod.name}: image {pod.image} cannot be pulled: {why}"
        )
    if pod.waits in FIXED_WORDS:
        return Story(Reason.NOT_STARTED, f"pod {pod.name}: {pod.waits}: {pod.why}")
    if pod.waits == "CrashLoopBackOff":
        why = pod.last_words or pod.why
        return Story(Reason.CRASHING, f"pod {pod.name} ends again and again: {why}")
    for told in reversed(warnings):
        if told.reason in DENIALS:
            return Story(
                Reason.CERTIFICATE_DENIED,
                f"pod {pod.name} is denied a certificate: {told.reason}: {told.message}",
            )
        if told.reason in MOUNTS:
            return Story(Reason.NOT_STARTED, f"pod {pod.name}: {told.message}")
        if told.reason in SAID_BY_THE_POD:
            return Story(Reason.NOT_READY, f"pod {pod.name}: {told.message}")
    if pod.last_words:
        return Story(Reason.NOT_READY, f"pod {pod.name} was started again: {pod.last_words}")
    return None
