"""An Event about a pod: what `kubectl describe pod` shows."""

from __future__ import annotations

import datetime as dt
from typing import Any

from midstreamer.domain.errors import shortened

MESSAGE_CHARACTERS_MAX = 1000
"""The API server takes 1,024 bytes of a note."""


def path(namespace: str) -> str:
    """Where the API server takes the Events of a namespace."""
    return f"/api/v1/namespaces/{namespace}/events"


def written(
    *,
    namespace: str,
    pod: str,
    uid: str,
    about: str,
    reason: str,
    message: str,
    component: str,
    now_s: float,
    is_warning: bool = True,
) -> dict[str, Any]:
    """An Event about a pod by a ``component``; ``about`` makes its name: it is written once."""
    moment = f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod}.{about}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": pod,
            "uid": uid,
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
