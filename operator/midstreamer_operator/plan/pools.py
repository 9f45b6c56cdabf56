"""Decide what to do about one pool of agents, and which status to write.

The whole Deployment is applied by server-side apply, unless it is known to be applied already.  The
operator remembers a digest of what it applied, and the generation that the Deployment then had.  So
the operator notices when the pool or the PodTemplate changes, and when somebody else changes the
Deployment.  After a restart nothing is remembered, which costs one more apply for each pool.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from midstreamer.domain.errors import BadInput, shortened
from midstreamer_operator.plan import denial_reasons
from midstreamer_operator.resources import deployments
from midstreamer_operator.resources.agentpools import Condition, Pool, Status
from midstreamer_operator.resources.deployments import Deployment
from midstreamer_operator.resources.pod_waits import Told, Waiter

MESSAGE_CHARACTERS_MAX = 600
"""Maximum number of characters of the message in a pool's condition; longer ones are shortened."""


class Reason(StrEnum):
    """Reason why a pool is ready or not, spelled as Kubernetes wants reasons of conditions."""

    ALL_READY = "AllReady"
    """As many agents as wanted are ready, and all run the current template."""
    STARTING = "Starting"
    """Agents are starting or stopping, and no problem is known."""
    ROLLING = "Rolling"
    """Agents are being replaced by agents of the current template."""
    TEMPLATE_MISSING = "TemplateMissing"
    """The chart's PodTemplate is missing, unusable, or not of the revision that the pool wants."""
    NAME_TAKEN = "NameTaken"
    """A Deployment of the pool's name exists, and does not belong to the pool."""
    DEPLOYMENT_REFUSED = "DeploymentRefused"
    """The API server rejects the Deployment."""
    PODS_REFUSED = "PodsRefused"
    """The API server rejects the pods, because a quota is full or a policy forbids them."""
    UNSCHEDULABLE = "Unschedulable"
    """No node can run a pod: nodes lack room, or rules keep the pod off them."""
    IMAGE_NOT_PULLED = "ImageNotPulled"
    """The image of a pod cannot be pulled."""
    CERTIFICATE_DENIED = "CertificateDenied"
    """The operator denied a pod its certificate."""
    CRASHING = "Crashing"
    """A container of a pod crashes after each restart."""
    NOT_STARTED = "NotStarted"
    """A container cannot be created: a volume, Secret or ConfigMap that it needs is missing."""
    NOT_READY = "NotReady"
    """A pod runs but is not ready; the message says what the pod waits for."""


MENDING = frozenset({Reason.STARTING, Reason.ROLLING, Reason.NOT_READY})
"""Reasons that need no action, because the pool becomes ready by itself."""
IMAGE_WORDS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull",
     "RegistryUnavailable", "ImageInspectError"}
)  # fmt: skip
"""Reasons of the kubelet why a container waits for its image."""
FIXED_WORDS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""Reasons of the kubelet why a container cannot be created or started."""
DENIALS = frozenset(map(str, denial_reasons.Reason))
"""Reasons of Events about pods whose certificate the operator denied."""
MOUNTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
"""Reasons of Events about volumes or network that the kubelet cannot set up for a pod."""
SAID_BY_THE_POD = frozenset({"WaitingForCertificate", "NotReady"})
"""Reasons of the Events that a pod writes about itself (`midstreamer.cluster.pod_reports`)."""


class Applied(NamedTuple):
    """What the operator remembers of the Deployment that it applied last."""

    digest: str
    """Digest of the Deployment as the operator sent it."""
    generation: int
    """``metadata.generation`` of the Deployment in the API server's answer to the apply."""


@dataclass(frozen=True)
class Seen:
    """Everything that was observed of one pool, from which `decide` decides."""

    pool: Pool
    template: Mapping[str, Any] | None = None
    """The chart's PodTemplate."""
    deployment: Deployment | None = None
    """The Deployment of the pool's name, no matter who owns it."""
    pods: tuple[Waiter, ...] = ()
    """The pool's pods; empty when they were not read, because all agents are ready or there is no
    Deployment."""
    events: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    """Events of type Warning about pods that are not ready, by name of the pod."""
    applied: Applied | None = None
    """What this operator applied to the pool last; None after a restart of the operator."""
    refusal: str = ""
    """Message with which the API server rejected the Deployment a moment ago; empty when it did not
    reject it."""


@dataclass(frozen=True)
class Decision:
    """What to do about a pool: apply a Deployment, write a status, or neither."""

    apply: Mapping[str, Any] | None = None
    status: Status | None = None
    waits: bool = False
    """Whether the pool should be reconciled again soon."""


class Story(NamedTuple):
    """Reason and message that say why a pool is ready or not."""

    reason: Reason
    message: str


def decide(seen: Seen, now_s: float) -> Decision:
    """Return what to do next about a pool; nothing when it is being deleted."""
    if seen.pool.is_going:
        return Decision()
    hindrance = _hindrance(seen)
    if hindrance is None and not seen.refusal:
        assert seen.template is not None  # noqa: S101 - else there is a hindrance
        try:
            manifest = deployments.wanted(seen.pool, seen.template)
        except BadInput as error:
            hindrance = Story(Reason.TEMPLATE_MISSING, error.message)
        else:
            if not _is_in_force(seen, manifest):
                return Decision(apply=manifest, waits=True)
    story = hindrance or _story(seen)
    status = status_of(seen, story, now_s)
    is_news = status != seen.pool.status
    return Decision(status=status if is_news else None, waits=story.reason is not Reason.ALL_READY)


def status_of(seen: Seen, story: Story, now_s: float) -> Status:
    """Return the status of a pool for a reason and message.

    The transition time of a condition changes only when the condition becomes true or false.
    """
    pool, own = seen.pool, seen.deployment if _is_own(seen) else None
    is_ready = story.reason is Reason.ALL_READY
    is_moving = story.reason in MENDING
    line = shortened(" ".join(story.message.split()), MESSAGE_CHARACTERS_MAX)
    holds_by_type = {"Ready": is_ready, "Progressing": is_moving}
    return Status(
        observed_generation=pool.generation,
        replicas=own.replicas if own else 0,
        ready_replicas=own.ready if own else 0,
        selector=deployments.selector(pool),
        conditions=tuple(
            _condition(pool, kind, holds, story.reason, line, now_s)
            for kind, holds in holds_by_type.items()
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
    """Return whether the Deployment of the pool's name belongs to the pool."""
    return seen.deployment is not None and seen.deployment.owner_uid == seen.pool.uid


def _is_in_force(seen: Seen, made: Mapping[str, Any]) -> bool:
    """Return whether the Deployment ``made`` is in the cluster already.

    This is so when this operator applied ``made`` last, and nobody has changed the Deployment since
    then.  Another apply is then superfluous.
    """
    if seen.deployment is None or seen.applied is None:
        return False
    return seen.applied == Applied(deployments.digest(made), seen.deployment.generation)


def _hindrance(seen: Seen) -> Story | None:
    """Return why the Deployment cannot be applied, None when it can."""
    spec, name = seen.pool.spec, deployments.template_name(seen.pool.spec.fleet)
    if seen.template is None:
        return Story(
            Reason.TEMPLATE_MISSING,
            f"PodTemplate {name} is missing; `helm upgrade` of release {spec.fleet} creates it",
        )
    found = deployments.revision(seen.template)
    if spec.template_revision and found != spec.template_revision:
        return Story(
            Reason.TEMPLATE_MISSING,
            f"PodTemplate {name} has revision {found or 'unknown'}, but the pool waits for revision"
            f" {spec.template_revision}; `helm upgrade` of release {spec.fleet} updates both",
        )
    held = seen.deployment
    if held is not None and not _is_own(seen):
        owner = f"belongs to {held.owner}" if held.owner else "has no owner"
        return Story(
            Reason.NAME_TAKEN,
            f"Deployment {held.name} exists and {owner}; delete the Deployment, or rename the pool",
        )
    if held is not None and held.is_going:
        return Story(Reason.STARTING, f"an earlier Deployment {held.name} is being deleted")
    return None


def _story(seen: Seen) -> Story:
    """Return why a pool is ready or not; called when `_hindrance` returned None."""
    if seen.refusal:
        return Story(Reason.DEPLOYMENT_REFUSED, seen.refusal)
    held = seen.deployment
    if held is None or held.observed_generation < held.generation:
        return Story(
            Reason.STARTING, f"{_count(seen)}; Kubernetes has not handled the Deployment yet"
        )
    if held.is_whole:
        return Story(Reason.ALL_READY, _count(seen))
    if failure := held.told("ReplicaFailure", "True"):
        return Story(Reason.PODS_REFUSED, f"{_count(seen)}: {failure.message}")
    if cause := _cause(seen):
        return Story(cause.reason, f"{_count(seen)}: {cause.message}")
    if held.updated < held.wanted or held.replicas > held.updated:
        updated = f"{held.updated} of {held.wanted} of the current template"
        return Story(Reason.ROLLING, f"{_count(seen)}, {updated}")
    return Story(Reason.STARTING, _count(seen))


def _count(seen: Seen) -> str:
    """Return how many agents are ready, such as ``1 of 2 agents ready``."""
    ready = seen.deployment.ready if seen.deployment else 0
    wanted = seen.pool.spec.replicas
    return f"{ready} of {wanted} agent{'' if wanted == 1 else 's'} ready"


def _cause(seen: Seen) -> Story | None:
    """Return why one of the pool's pods is not ready, None when no reason is known.

    Of several pods, take one with a reason that needs action, if any; otherwise the first by name.
    """
    found = [
        story
        for pod in sorted(seen.pods, key=lambda each: each.name)
        if not pod.is_ready and not pod.is_going
        if (story := _waits_for(pod, seen.events.get(pod.name, ())))
    ]
    found.sort(key=lambda story: story.reason in MENDING)
    return found[0] if found else None


def _waits_for(pod: Waiter, events: tuple[Told, ...]) -> Story | None:
    """Return why one pod waits, None when no reason is known."""
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
        return Story(Reason.CRASHING, f"pod {pod.name} crashes after each restart: {why}")
    for event in reversed(warnings):
        if event.reason in DENIALS:
            return Story(
                Reason.CERTIFICATE_DENIED,
                f"pod {pod.name} is denied a certificate: {event.reason}: {event.message}",
            )
        if event.reason in MOUNTS:
            return Story(Reason.NOT_STARTED, f"pod {pod.name}: {event.message}")
        if event.reason in SAID_BY_THE_POD:
            return Story(Reason.NOT_READY, f"pod {pod.name}: {event.message}")
    if pod.last_words:
        return Story(Reason.NOT_READY, f"pod {pod.name} was restarted: {pod.last_words}")
    return None
