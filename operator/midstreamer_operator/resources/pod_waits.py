"""The fields of a Pod, and of Events about it, that say why the pod waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer_operator.resources import object_reading
from midstreamer_operator.resources.pod_certificate_fields import ENDED


class _Waiting(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


class _Ended(msgspec.Struct, frozen=True, rename="camel"):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class _State(msgspec.Struct, frozen=True):
    waiting: _Waiting | None = None
    terminated: _Ended | None = None


class _Container(msgspec.Struct, frozen=True, rename="camel"):
    image: str = ""
    state: _State = _State()
    last_state: _State = _State()


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    message: str = ""
    conditions: tuple[_Condition, ...] = ()
    init_container_statuses: tuple[_Container, ...] = ()
    container_statuses: tuple[_Container, ...] = ()


class _Object(msgspec.Struct, frozen=True):
    metadata: object_reading.Meta = object_reading.Meta()
    status: _Status = _Status()


class Waiter(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of a pool, with the reason why it waits."""

    name: str
    uid: str = ""
    is_ready: bool = False
    is_going: bool = False
    """Whether the pod is being deleted, or has ended."""
    unscheduled: str = ""
    """Why the scheduler finds no node for the pod; empty when the pod has a node."""
    image: str = ""
    """Image of the container that waits."""
    waits: str = ""
    """Why a container waits: one word from the kubelet, such as `ImagePullBackOff`."""
    why: str = ""
    """Message of the kubelet for the reason in `waits`."""
    last_words: str = ""
    """Termination message of the container that failed; without one, its reason and exit code."""


class Told(msgspec.Struct, frozen=True):
    """An Event of type Warning about a pod."""

    reason: str
    message: str
    time: str = ""
    """When the Event was last seen: ISO 8601 in UTC, so that the texts sort in the order of
    time."""


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None


def read(given: Mapping[str, Any]) -> Waiter:
    """Convert an object of the API server to a pod; raise BadInput when it is no Pod."""
    pod = object_reading.converted(given, _Object, "pod")
    status, meta = pod.status, pod.metadata
    conditions = {each.type: each for each in status.conditions}
    ready, placed = conditions.get("Ready"), conditions.get("PodScheduled")
    containers = (*status.init_container_statuses, *status.container_statuses)
    held = next((each for each in containers if each.state.waiting), None)
    waiting = held.state.waiting if held and held.state.waiting else _Waiting()
    ended = [
        end for each in containers for end in (each.last_state.terminated, each.state.terminated)
        if end is not None and end.exit_code
    ]  # fmt: skip
    return Waiter(
        name=meta.name,
        uid=meta.uid,
        is_ready=ready is not None and ready.status == "True",
        is_going=meta.deletion_timestamp is not None or status.phase in ENDED,
        unscheduled=placed.message if placed and placed.status == "False" else "",
        image=held.image if held else "",
        waits=waiting.reason,
        why=waiting.message,
        last_words=_last_words(ended[-1]) if ended else "",
    )


def warning(given: Mapping[str, Any]) -> Told | None:
    """Convert an Event of the API server; return None when its type is not Warning."""
    event = object_reading.converted(given, _Event, "Event")
    if event.type != "Warning":
        return None
    return Told(event.reason, event.message, event.last_timestamp or event.event_time or "")


def _last_words(end: _Ended) -> str:
    """Return a container's termination message as one line, or else its reason and exit code."""
    words = " ".join(end.message.split())
    return words or f"{end.reason or 'Error'}, exit code {end.exit_code}"
