"""The Lease by which replicas of the operator agree on the leader."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from midstreamer_operator.resources.object_reading import Meta, converted


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()
    spec: _Spec = _Spec()


class Record(msgspec.Struct, frozen=True):
    """What a replica reads from the Lease.

    If two reads return equal records, the Lease was not renewed between them.
    """

    holder: str
    """Name of the replica that holds the lease; empty after it was released."""
    version: str
    """Resource version of the Lease, which changes with every write."""
    lease_s: float
    """Duration of the lease in seconds, 0 when it has none."""


def read(given: Mapping[str, Any]) -> Record:
    """Convert a Lease of the API server to a record; raise BadInput when it is no Lease."""
    lease = converted(given, _Object, "lease")
    spec = lease.spec
    return Record(
        spec.holder_identity or "",
        lease.metadata.resource_version,
        float(spec.lease_duration_seconds or 0),
    )


def made(name: str, holder: str, lease_s: float, now_s: float) -> dict[str, Any]:
    """Return a new Lease held by ``holder``."""
    fresh = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"leaseTransitions": -1},
    }
    return held(fresh, holder, lease_s, now_s)


def held(given: Mapping[str, Any], holder: str, lease_s: float, now_s: float) -> dict[str, Any]:
    """Return the Lease to write: ``holder`` has taken or renewed it.

    If ``holder`` is empty, the returned Lease is released.
    """
    spec = dict(given.get("spec") or {})
    moment = f"{dt.datetime.fromtimestamp(now_s, dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    if holder and spec.get("holderIdentity") != holder:
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {"acquireTime": moment, "leaseTransitions": transitions}
    # Kubernetes wants whole seconds; rounding up never shortens the lease.
    duration_s = max(1, math.ceil(lease_s)) if holder else 1
    spec |= {"holderIdentity": holder, "renewTime": moment, "leaseDurationSeconds": duration_s}
    return {**given, "spec": spec}
