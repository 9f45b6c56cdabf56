"""The lines that `midstreamer-k8s status` prints: pods, why they wait, and certificates.

Pure functions of the objects that the API server returned, and of the time.  A field that is
missing in an object is left out of the output.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from midstreamer.cluster import pod_reports
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, shortened
from midstreamer.domain.identity import Kind
from midstreamer_operator.k8s import pod_shard_lag
from midstreamer_operator.k8s.pod_shard_lag import Measured
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.resources import deployments
from midstreamer_operator.resources.certificate_ledger import Entry

Object: TypeAlias = Mapping[str, Any]

AGENT = "agent"
COMPONENTS = ("operator", "postgres", "sync", "coordinator", AGENT)
"""Components of an installation, in the order in which they are shown."""
LINE_CHARACTERS_MAX = 300
"""Maximum number of characters of one reason with its message; longer lines are shortened."""
NOT_TELLING = ("ContainerCreating", "PodInitializing")
"""Reasons of waiting containers that only say that the container does not run yet."""
SYMPTOMS = ("Unhealthy", "BackOff")
"""Reasons of Events that say that something is wrong, but not what."""
DENIALS = frozenset(map(str, Reason))
"""Reasons of Events about pods whose certificate the operator denied."""
OWN = pod_reports.COMPONENT
"""Source of the Events that a pod writes about itself; the newest shows the pod's present state."""


@dataclass(frozen=True)
class Found:
    """Everything that was read of one installation."""

    namespace: str
    release: str
    pods: Sequence[Object] = ()
    owners: Sequence[Object] = ()
    """Deployments and StatefulSets of the release, without the Deployments of pools."""
    pools: Sequence[Object] = ()
    """AgentPools of the installation."""
    events: Sequence[Object] = ()
    """Events of the namespace."""
    measured: Sequence[Measured] = ()
    """What pods report in their metrics: shards, and the position in the change feed."""
    entries: Sequence[Entry] = ()
    """Entries of the ledger of certificates."""
    notes: Sequence[str] = field(default=())
    """One line for each thing that could not be read, with the reason."""


WAITING = "waiting"
"""Heading of the lines that say why pods wait; without such pods there is no heading."""


def shown(found: Found, now_s: float) -> list[str]:
    """Return the lines that `midstreamer-k8s status` prints."""
    lines = [f"{found.namespace}/{found.release}", "", *_counts(found)]
    if waits := list(_waits(found)):
        lines += ["", WAITING, *(f"  {line}" for line in waits)]
    if found.measured:
        lines += ["", "history", *pod_shard_lag.shown(found.measured)]
    lines += ["", *_certificates(found, now_s)]
    if found.notes:
        lines += ["", "not shown", *(f"  {note}" for note in found.notes)]
    return lines


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready and is not being deleted."""
    return not _meta(pod).get("deletionTimestamp") and (
        _condition(pod, "Ready").get("status") == "True"
    )


def is_done(pod: Object) -> bool:
    """Return whether a pod ended successfully, as the pod of `helm test` does."""
    return (pod.get("status") or {}).get("phase") == "Succeeded"


def component_of(owner_or_pod: Object) -> str:
    """Return the component of a pod or of its owner, from its label; empty without the label."""
    return str((_meta(owner_or_pod).get("labels") or {}).get(deployments.COMPONENT) or "")


def why(pod: Object, events: Iterable[Object]) -> str:
    """Return why a pod is not ready, in one line: its cause if known, else a symptom."""
    if _meta(pod).get("deletionTimestamp"):
        return "is being deleted"
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _line(scheduled.get("reason"), scheduled.get("message"))
    about = [
        event for event in events
        if event.get("type") == "Warning"
        and _concerns(event, pod)
        and _moment(event) >= _begun(pod)
    ]  # fmt: skip
    causes = [event for event in about if event.get("reason") not in SYMPTOMS]
    if _runs(pod):  # the pod has started, so Events about its start do not matter any more
        causes = [event for event in causes if _is_own(event) or event.get("reason") in DENIALS]
    states = list(_states(pod))
    last = max(causes, key=_moment, default=None)
    if last is not None and not any(reason == "CrashLoopBackOff" for reason, _ in states):
        return _line(last.get("reason"), last.get("message"))
    for reason, message in states:
        return _line(reason, message)
    if about:
        symptom = max(about, key=_moment)
        more = "; its /readyz says why" if symptom.get("reason") == "Unhealthy" else ""
        return _line(symptom.get("reason"), f"{symptom.get('message')}{more}")
    ready = _condition(pod, "Ready")
    return _line(ready.get("reason") or "starting", ready.get("message"))


def lacks(pod: Object, events: Iterable[Object]) -> str:
    """Return what a ready pod lacks, in one line; an empty string when it lacks nothing.

    A pod writes Events about itself.  It lacks something when the newest of them has the reason
    `Incomplete`; the message of this Event then says what.
    """
    own = [event for event in events if _is_own(event) and _concerns(event, pod)]
    last = max(own, key=_moment, default=None)
    if last is None or last.get("reason") != pod_reports.INCOMPLETE:
        return ""
    return _line(last.get("reason"), last.get("message"))


# --- pods -----------------------------------------------------------------------------------------


def _counts(found: Found) -> Iterator[str]:
    """Yield one line for each component: how many of its pods are ready."""
    yield f"{'pods':<14}ready"
    components = {component_of(item) for item in (*found.pods, *found.owners)} - {""}
    components |= {AGENT} if found.pools else set()
    for component in sorted(components, key=_order):
        pods = [pod for pod in found.pods if component_of(pod) == component and not is_done(pod)]
        wanted = _wanted(found, component)
        if wanted is None and not pods:
            # All pods of this component have ended successfully, and no more pods are wanted. Such
            # a component is a finished `helm test`.
            continue
        ready = sum(map(is_ready, pods))
        yield f"{component:<14}{ready} of {len(pods) if wanted is None else wanted}"
    if not components and found.notes:
        yield "no pod is visible; you may lack the right to see pods: refusals are listed below"
    elif not components:
        yield "none: there is no release of this name in this namespace, or it was uninstalled"


def _waits(found: Found) -> Iterator[str]:
    """Yield lines that say what is not ready, and why.

    There is a line for each pod that is not ready or lacks something, for each pool that is not
    ready, and for each component that has fewer pods than wanted.
    """
    pods = sorted(found.pods, key=lambda pod: (_order(component_of(pod)), _name(pod)))
    for pod in pods:
        if is_done(pod):
            continue
        reason = lacks(pod, found.events) if is_ready(pod) else why(pod, found.events)
        if reason:
            yield f"{_name(pod)}: {reason}"
    for pool in sorted(found.pools, key=_name):
        ready = _condition(pool, "Ready")
        if ready.get("status") != "True":
            reason = _line(ready.get("reason") or "Unseen", ready.get("message"))
            yield f"pool {_name(pool)}: {reason}"
    for component in COMPONENTS:
        if component == AGENT:
            continue  # the lines about pools, which come before, say why agents are missing
        wanted = _wanted(found, component)
        existing = sum(component_of(pod) == component for pod in pods)
        if wanted is not None and existing < wanted:
            yield f"{component}: {wanted - existing} of {wanted} pods do not exist: " + _unmade(
                found, component
            )


def _unmade(found: Found, component: str) -> str:
    """Return why pods of a component were not created.

    This is the newest warning about the owner of these pods, or about a ReplicaSet of the owner.
    """
    owners = [_name(owner) for owner in found.owners if component_of(owner) == component]
    about = [
        event for event in found.events
        if event.get("type") == "Warning"
        and (event.get("involvedObject") or {}).get("kind") != "Pod"
        and any(_is_of(_about(event), name) for name in owners)
    ]  # fmt: skip
    last = max(about, key=_moment, default=None)
    return "no Event says why" if last is None else _line(last.get("reason"), last.get("message"))


def _is_of(about: str, owner: str) -> bool:
    """Return whether the name ``about`` is ``owner``, or that of a ReplicaSet of ``owner``.

    The name of a ReplicaSet begins with the name of its Deployment and a hyphen.
    """
    return about == owner or about.startswith(f"{owner}-")


def _wanted(found: Found, component: str) -> int | None:
    """Return how many pods a component should have.

    This is the number of replicas that its Deployments, StatefulSets and AgentPools ask for.
    Return None when the component has none of these.
    """
    of_pools = found.pools if component == AGENT else ()
    owners = [owner for owner in found.owners if component_of(owner) == component]
    counts = [int((item.get("spec") or {}).get("replicas", 1)) for item in (*owners, *of_pools)]
    return sum(counts) if counts else None


def _runs(pod: Object) -> bool:
    """Return whether any container of the pod runs or has ended."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any((each.get("state") or {}).keys() & {"running", "terminated"} for each in statuses)


def _is_own(event: Object) -> bool:
    """Return whether a pod wrote this Event about itself."""
    return (event.get("source") or {}).get("component") == OWN


def _states(pod: Object) -> Iterator[tuple[str, str]]:
    """Yield reason and message of each container that does not run."""
    status = pod.get("status") or {}
    statuses = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    for each in statuses:
        state = each.get("state") or {}
        ended = (each.get("lastState") or {}).get("terminated") or {}
        if waiting := state.get("waiting"):
            reason = str(waiting.get("reason") or "")
            if reason not in NOT_TELLING:
                yield reason, str(_ending(ended) or waiting.get("message") or "")
        elif (terminated := state.get("terminated")) and terminated.get("exitCode"):
            yield str(terminated.get("reason") or "Error"), _ending(terminated)


def _begun(pod: Object) -> dt.datetime:
    """Return when a container of a pod was last started; Events before that are outdated."""
    begun = [_time("")]
    for each in (pod.get("status") or {}).get("containerStatuses", ()):
        for state in (each.get("state") or {}, each.get("lastState") or {}):
            kinds = (state.get(kind) or {} for kind in ("running", "terminated"))
            begun += [_time(each_state.get("startedAt")) for each_state in kinds]
    return max(begun)


def _ending(terminated: Object) -> str:
    """Return the last line of a container's termination message, or else its exit code."""
    if message := str(terminated.get("message") or "").strip():
        return message.splitlines()[-1]
    code = terminated.get("exitCode")
    reason = terminated.get("reason") or "the container"
    return f"{reason} ended with code {code}" if code else ""


# --- certificates ---------------------------------------------------------------------------------


def _certificates(found: Found, now_s: float) -> Iterator[str]:
    """Yield lines about the newest certificate of each identity.

    A certificate that is still valid has a line of its own, unless the pod of its identity was
    deleted.  Valid certificates of deleted pods are only counted, and so are expired certificates.
    """
    newest: dict[str, Entry] = {}
    for entry in found.entries:
        if entry.ends_s > newest.get(entry.id, entry).ends_s or entry.id not in newest:
            newest[entry.id] = entry
    uids = {str(_meta(pod).get("uid")) for pod in found.pods}
    rows, gone, over = [], 0, 0
    for uri, entry in newest.items():
        name, uid = _name_of(uri)
        if entry.ends_s <= now_s:
            over += 1
        elif uid and uid not in uids:
            gone += 1
        else:
            rows.append((name, f"expires in {_span(entry.ends_s - now_s)}"))
    yield f"certificates: {len(rows)} valid"
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"  {name:<{width}}  {ends}" for name, ends in sorted(rows))
    if gone:
        yield f"  {gone} valid, of deleted pods"
    if over:
        yield f"  {over} expired"


def _name_of(uri: str) -> tuple[str, str]:
    """Return the name under which an identity is shown, and the uid of the identity's pod.

    The uid is empty for an identity that is not of a pod of this namespace.
    """
    try:
        named = identity.parse(uri)
    except BadInput:
        return uri, ""
    parts = named.id.split("/")
    if len(parts) != 3:
        return named.name, ""
    if named.kind is Kind.CLIENT:  # a client's pod is in another namespace and was not read
        return f"{named.kind}/{parts[0]}/{parts[1]}", ""
    return f"{named.kind}/{parts[1]}", parts[2]


def _span(seconds: float) -> str:
    """Return a duration as minutes, hours and minutes, or days."""
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


# --- objects --------------------------------------------------------------------------------------


def _meta(item: Object) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _name(item: Object) -> str:
    return str(_meta(item).get("name") or "")


def _concerns(event: Object, pod: Object) -> bool:
    """Return whether an Event is about this pod."""
    return (event.get("involvedObject") or {}).get("uid") == _meta(pod).get("uid")


def _order(component: str) -> tuple[int, str]:
    """Return the sort key of a component: the order of `COMPONENTS`, then unknown ones by name."""
    known = component in COMPONENTS
    return (COMPONENTS.index(component) if known else len(COMPONENTS), component)


def _condition(pod: Object, type: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == type), {})


def _about(event: Object) -> str:
    return str((event.get("involvedObject") or {}).get("name") or "")


def _moment(event: Object) -> dt.datetime:
    """Return when an Event was last seen."""
    return _time(event.get("lastTimestamp") or event.get("eventTime"))


def _time(text: object) -> dt.datetime:
    """Parse the time in a field of an object; return 1970-01-01 when it is no time."""
    try:
        return dt.datetime.fromisoformat(str(text))
    except ValueError:
        return dt.datetime.fromtimestamp(0, dt.UTC)


def _line(reason: object, message: object) -> str:
    """Return reason and message as one line of bounded length."""
    words = " ".join(str(message or "").split())
    return shortened(f"{reason}: {words}" if words else str(reason), LINE_CHARACTERS_MAX)
