"""The fields of a Pod that the operator reads to decide about the pod's certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer_operator.resources.object_reading import Meta, converted

ENDED = ("Succeeded", "Failed")
"""Phases of a pod whose containers have ended for good."""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    service_account_name: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Pod(msgspec.Struct, frozen=True):
    """A pod of the installation's namespace, as it was read from the API server."""

    name: str
    uid: str
    account: str
    """Name of the pod's service account."""
    is_going: bool = False
    """Whether the pod is being deleted, or has ended."""


def read(given: Mapping[str, Any]) -> Pod:
    """Convert an object of the API server to a pod; raise BadInput when it is no Pod."""
    pod = converted(given, _Object, "pod")
    is_going = pod.metadata.deletion_timestamp is not None or pod.status.phase in ENDED
    account = pod.spec.service_account_name
    return Pod(pod.metadata.name, pod.metadata.uid, account, is_going)
