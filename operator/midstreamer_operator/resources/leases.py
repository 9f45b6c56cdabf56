"""A Lease, as far as replicas agree by it on who leads."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer_operator.resources.reading import Meta, converted


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()


class Record(msgspec.Struct, frozen=True):
    """What stands in the lease; equal records mean that nobody has renewed it meanwhile."""

    holder: str
    """Empty when it was given back."""
    version: str
    """The object's resource version: it changes with every write."""
    lease_s: float


def read(given: Mapping[str, Any]) -> Record:
    """The record in the object that the API server gave."""
    made = converted(given, _Object, "lease")
    spec = made.spec
    return Record(
        spec.holder_identity or "",
        made.metadata.resource_version,
        float(spec.lease_duration_seconds or 0),
    )


def made(name: str, holder: str, lease_s: float, now_s: float) -> dict[str, Any]:
    """A lease that was not there before."""
    fresh = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"leaseTransitions": -1},
    }
    return held(fresh, holder, lease_s, now_s)


def held(given: Mapping[str, Any], holder: str, lease_s: float, now_s: float) -> dict[str, Any]:
    """The lease, taken or renewed by ``holder``; given back when that is empty."""
    spec = dict(given.get("spec") or {})
    moment = f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    if holder and spec.get("holderIdentity") != holder:
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {"acquireTime": moment, "leaseTransitions": transitions}
    # Whole seconds, and never fewer than its holder counts on.
    duration_s = max(1, math.ceil(lease_s)) if holder else 1
    spec |= {"holderIdentity": holder, "renewTime": moment, "leaseDurationSeconds": duration_s}
    return {**given, "spec": spec}
