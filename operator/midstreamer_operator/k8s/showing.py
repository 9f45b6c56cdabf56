"""What `status` shows of an installation: pods, why they wait, certificates; pure, the time given.

Everything is read from objects of the API server as they are.  What is missing in one is not shown.
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
from midstreamer_operator.k8s import measures
from midstreamer_operator.k8s.measures import Measured
from midstreamer_operator.plan.reasons import Reason
from midstreamer_operator.resources import deployments
from midstreamer_operator.resources.ledger import Entry

Object: TypeAlias = Mapping[str, Any]

AGENT = "agent"
COMPONENTS = ("operator", "postgres", "sync", "coordinator", AGENT)
LINE_CHARACTERS_MAX = 300
NOT_TELLING = ("ContainerCreating", "PodInitializing")
"""Reasons that say only that it is not there yet."""
SYMPTOMS = ("Unhealthy", "BackOff")
"""Reasons of Events that say that something is wrong, and not what."""
DENIALS = frozenset(map(str, Reason))
"""Reasons of Events about pods whose certificates the operator denied."""
OWN = pod_reports.COMPONENT
"""The component of Events that a pod writes about itself: the last of them still holds."""


@dataclass(frozen=True)
class Found:
    """What was read of one installation."""

    namespace: str
    release: str
    pods: Sequence[Object] = ()
    owners: Sequence[Object] = ()
    """Deployments and StatefulSets, but for those of pools."""
    pools: Sequence[Object] = ()
    """AgentPools."""
    events: Sequence[Object] = ()
    measured: Sequence[Measured] = ()
    """What pods say of shards and lag."""
    entries: Sequence[Entry] = ()
    notes: Sequence[str] = field(default=())
    """What could not be read, and why."""


def shown(found: Found, now_s: float) -> list[str]:
    """The screen, a line each."""
    lines = [f"{found.namespace}/{found.release}", "", *_counts(found)]
    if waits := list(_waits(found)):
        lines += ["", "waits", *(f"  {line}" for line in waits)]
    if found.measured:
        lines += ["", "history", *measures.shown(found.measured)]
    lines += ["", *_certificates(found, now_s)]
    if found.notes:
        lines += ["", "not shown", *(f"  {note}" for note in found.notes)]
    return lines


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and is not about to go."""
    return not _meta(pod).get("deletionTimestamp") and (
        _condition(pod, "Ready").get("status") == "True"
    )


def is_done(pod: Object) -> bool:
    """Whether a pod has done what it was there for, as that of `helm test`."""
    return (pod.get("status") or {}).get("phase") == "Succeeded"


def component_of(one: Object) -> str:
    """Which kind of pod it is, or the owner of which; empty when it does not say."""
    return str((_meta(one).get("labels") or {}).get(deployments.COMPONENT) or "")


def why(pod: Object, events: Iterable[Object]) -> str:
    """Why a pod is not ready, in one line: the cause if anything names it, else a symptom."""
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
    told = [event for event in about if event.get("reason") not in SYMPTOMS]
    if _runs(pod):  # what kept it from starting is over
        told = [event for event in told if _is_own(event) or event.get("reason") in DENIALS]
    states = list(_states(pod))
    last = max(told, key=_moment, default=None)
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
    """What a ready pod said last that it lacks, in one line; empty when it took that back."""
    own = [event for event in events if _is_own(event) and _concerns(event, pod)]
    last = max(own, key=_moment, default=None)
    if last is None or last.get("reason") != pod_reports.INCOMPLETE:
        return ""
    return _line(last.get("reason"), last.get("message"))


# --- pods -----------------------------------------------------------------------------------------


def _counts(found: Found) -> Iterator[str]:
    yield f"{'pods':<14}ready"
    there = {component_of(one) for one in (*found.pods, *found.owners)} - {""}
    there |= {AGENT} if found.pools else set()
    for component in sorted(there, key=_order):
        pods = [pod for pod in found.pods if component_of(pod) == component and not is_done(pod)]
        wanted = _wanted(found, component)
        if wanted is None and not pods:
            continue  # of a test that has passed
        ready = sum(map(is_ready, pods))
        yield f"{component:<14}{ready} of {len(pods) if wanted is None else wanted}"
    if not there and found.notes:
        yield "none is seen, and not all may be: what was refused is below"
    elif not there:
        yield "none: no release of this name is here, or it was uninstalled"


def _waits(found: Found) -> Iterator[str]:
    pods = sorted(found.pods, key=lambda pod: (_order(component_of(pod)), _name(pod)))
    for pod in pods:
        if is_done(pod):
            continue
        said = lacks(pod, found.events) if is_ready(pod) else why(pod, found.events)
        if said:
            yield f"{_name(pod)}: {said}"
    for pool in sorted(found.pools, key=_name):
        ready = _condition(pool, "Ready")
        if ready.get("status") != "True":
            told = _line(ready.get("reason") or "Unseen", ready.get("message"))
            yield f"pool {_name(pool)}: {told}"
    for component in COMPONENTS:
        if component == AGENT:
            continue  # their pools have said it
        wanted = _wanted(found, component)
        there = sum(component_of(pod) == component for pod in pods)
        if wanted is not None and there < wanted:
            yield f"{component}: {wanted - there} of {wanted} pods are not made: " + _unmade(
                found, component
            )


def _unmade(found: Found, component: str) -> str:
    """Why the owner of a component's pods, or its ReplicaSet, makes none."""
    owners = [_name(one) for one in found.owners if component_of(one) == component]
    about = [
        event for event in found.events
        if event.get("type") == "Warning"
        and (event.get("involvedObject") or {}).get("kind") != "Pod"
        and any(_is_of(_about(event), name) for name in owners)
    ]  # fmt: skip
    last = max(about, key=_moment, default=None)
    return "no Event says why" if last is None else _line(last.get("reason"), last.get("message"))


def _is_of(about: str, owner: str) -> bool:
    """Whether this is the name of an owner, or of a ReplicaSet of it."""
    return about == owner or about.startswith(f"{owner}-")


def _wanted(found: Found, component: str) -> int | None:
    of_pools = found.pools if component == AGENT else ()
    owners = [one for one in found.owners if component_of(one) == component]
    counts = [int((one.get("spec") or {}).get("replicas", 1)) for one in (*owners, *of_pools)]
    return sum(counts) if counts else None


def _runs(pod: Object) -> bool:
    """Whether a container of the pod runs, or has ended."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any((each.get("state") or {}).keys() & {"running", "terminated"} for each in statuses)


def _is_own(event: Object) -> bool:
    return (event.get("source") or {}).get("component") == OWN


def _states(pod: Object) -> Iterator[tuple[str, str]]:
    """Reason and message of each container that does not run."""
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
    """When a container of a pod was last started: Events from before it are over."""
    begun = [_time("")]
    for each in (pod.get("status") or {}).get("containerStatuses", ()):
        for state in (each.get("state") or {}, each.get("lastState") or {}):
            kinds = (state.get(kind) or {} for kind in ("running", "terminated"))
            begun += [_time(one.get("startedAt")) for one in kinds]
    return max(begun)


def _ending(terminated: Object) -> str:
    """What a container said at its end, or with which code it ended."""
    if message := str(terminated.get("message") or "").strip():
        return message.splitlines()[-1]
    code = terminated.get("exitCode")
    reason = terminated.get("reason") or "it"
    return f"{reason} ended with code {code}" if code else ""


# --- certificates ---------------------------------------------------------------------------------


def _certificates(found: Found, now_s: float) -> Iterator[str]:
    """The newest certificate of each name that may still be used."""
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
            rows.append((name, f"ends in {_span(entry.ends_s - now_s)}"))
    yield f"certificates: {len(rows)} in force"
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"  {name:<{width}}  {ends}" for name, ends in sorted(rows))
    if gone:
        yield f"  {gone} of pods that are gone"
    if over:
        yield f"  {over} that have ended"


def _name_of(uri: str) -> tuple[str, str]:
    """How an identity is shown, and the uid of its pod if it is a member's."""
    try:
        named = identity.parse(uri)
    except BadInput:
        return uri, ""
    parts = named.id.split("/")
    if len(parts) != 3:
        return named.name, ""
    if named.kind is Kind.CLIENT:  # its pod is elsewhere, and not read
        return f"{named.kind}/{parts[0]}/{parts[1]}", ""
    return f"{named.kind}/{parts[1]}", parts[2]


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


# --- objects --------------------------------------------------------------------------------------


def _meta(one: Object) -> Mapping[str, Any]:
    return one.get("metadata") or {}


def _name(one: Object) -> str:
    return str(_meta(one).get("name") or "")


def _concerns(event: Object, pod: Object) -> bool:
    return (event.get("involvedObject") or {}).get("uid") == _meta(pod).get("uid")


def _order(component: str) -> tuple[int, str]:
    known = component in COMPONENTS
    return (COMPONENTS.index(component) if known else len(COMPONENTS), component)


def _condition(pod: Object, type: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == type), {})


def _about(event: Object) -> str:
    return str((event.get("involvedObject") or {}).get("name") or "")


def _moment(event: Object) -> dt.datetime:
    return _time(event.get("lastTimestamp") or event.get("eventTime"))


def _time(text: object) -> dt.datetime:
    """A time of an object; the beginning of all times if it has none that can be read."""
    try:
        return dt.datetime.fromisoformat(str(text))
    except ValueError:
        return dt.datetime.fromtimestamp(0, dt.UTC)


def _line(reason: object, message: object) -> str:
    words = " ".join(str(message or "").split())
    return shortened(f"{reason}: {words}" if words else str(reason), LINE_CHARACTERS_MAX)
