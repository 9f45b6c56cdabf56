"""Kubernetes Events about a pod, which ``kubectl describe pod`` shows."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from midstreamer.domain.errors import shortened

MESSAGE_CHARACTERS_MAX = 1000
"""Maximum characters of an Event's message; the API server accepts 1,024 bytes."""


class Pod(NamedTuple):
    """The pod that an Event is about."""

    namespace: str
    """Namespace of the pod. Kubernetes requires that the Event is in the same namespace."""
    name: str
    uid: str


def path(namespace: str) -> str:
    """Return the API path of the Events of a namespace."""
    return f"/api/v1/namespaces/{namespace}/events"


def written(
    pod: Pod,
    *,
    about: str,
    reason: str,
    message: str,
    component: str,
    now_s: float,
    is_warning: bool = True,
) -> dict[str, Any]:
    """Return an Event of ``component`` about a pod, in the form that the API accepts.

    ``about`` distinguishes the Events of one pod: it is a part of the Event's name.  The API server
    refuses a second Event with the same name.
    """
    moment = f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name}.{about}", "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
        "type": "Warning" if is_warning else "Normal",
        "reason": reason,
        "message": shortened(message, MESSAGE_CHARACTERS_MAX),
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
