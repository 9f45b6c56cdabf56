"""The Deployment of a pool: what is wanted of it, and what it tells.

The pods are those of the chart's PodTemplate, with the fields of the pool laid over it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from midstreamer.domain.errors import BadInput
from midstreamer_operator.resources import agentpools, reading
from midstreamer_operator.resources.agentpools import Pool

CONTAINER = "agent"
REVISION = f"{agentpools.GROUP}/revision"
"""Annotation of a PodTemplate that says which one it is."""
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "midstreamer-operator"
HISTORY = 2
"""Earlier ReplicaSets that are kept."""


class _Owner(msgspec.Struct, frozen=True):
    uid: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Meta(reading.Meta, frozen=True, rename="camel"):
    owner_references: tuple[_Owner, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """One condition of a Deployment."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Spec(msgspec.Struct, frozen=True):
    replicas: int = 1


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A Deployment as it was read."""

    name: str
    owner_uid: str = ""
    """Uid of the object that controls it; empty when none does."""
    owner: str = ""
    """Kind and name of that object, for messages."""
    generation: int = 0
    observed_generation: int = 0
    wanted: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    conditions: tuple[Condition, ...] = ()
    is_going: bool = False

    def told(self, type: str, status: str) -> Condition | None:
        """The condition of this type when it has this status."""
        same = (each for each in self.conditions if (each.type, each.status) == (type, status))
        return next(same, None)

    @property
    def is_whole(self) -> bool:
        """Whether it has all it wants, each of its present template and ready."""
        seen = self.observed_generation >= self.generation
        return seen and self.replicas == self.updated == self.ready == self.wanted


def read(given: Mapping[str, Any]) -> Deployment:
    """A Deployment from the object that the API server gave; BadInput when it is none."""
    made = reading.converted(given, _Object, "Deployment")
    meta, status = made.metadata, made.status
    owner = next((each for each in meta.owner_references if each.controller), _Owner())
    return Deployment(
        name=meta.name,
        owner_uid=owner.uid,
        owner=f"{owner.kind} {owner.name}".strip(),
        generation=meta.generation,
        observed_generation=status.observed_generation,
        wanted=made.spec.replicas,
        replicas=status.replicas,
        updated=status.updated_replicas,
        ready=status.ready_replicas,
        conditions=status.conditions,
        is_going=meta.deletion_timestamp is not None,
    )


def template_name(release: str) -> str:
    """The PodTemplate from which agents of an installation are made."""
    return f"{release}-agent"


def revision(template: Mapping[str, Any]) -> str:
    """Which one a PodTemplate is; empty when it does not say."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(REVISION) or "")


def labels(pool: Pool) -> dict[str, str]:
    """The labels that select the pods of a pool."""
    return {INSTANCE: pool.spec.fleet, COMPONENT: "agent", agentpools.LABEL: pool.name}


def selector(pool: Pool) -> str:
    """The same as one word."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels(pool).items()))


def wanted(pool: Pool, template: Mapping[str, Any]) -> dict[str, Any]:
    """The Deployment of a pool, as it is applied; BadInput when the template has no agent."""
    pods = _pods(pool, template)
    owner = {
        "apiVersion": agentpools.API_VERSION,
        "kind": agentpools.KIND,
        "name": pool.name,
        "uid": pool.uid,
        "controller": True,
        # To block would need the right to write finalizers of pools.
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": pool.name,
            "labels": {**pods["metadata"]["labels"], MANAGED_BY: MANAGER},
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": pool.spec.replicas,
            "revisionHistoryLimit": HISTORY,
            "selector": {"matchLabels": labels(pool)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": pods,
        },
    }


def digest(made: Mapping[str, Any]) -> str:
    """A word that is the same for the same content alone."""
    return hashlib.sha256(msgspec.json.encode(made, order="deterministic")).hexdigest()


def _pods(pool: Pool, template: Mapping[str, Any]) -> dict[str, Any]:
    found = template.get("template") or {}
    meta, spec = found.get("metadata") or {}, dict(found.get("spec") or {})
    containers = list(spec.get("containers") or ())
    places = [at for at, each in enumerate(containers) if each.get("name") == CONTAINER]
    if not places:
        raise BadInput(
            f"PodTemplate {template_name(pool.spec.fleet)} has no container {CONTAINER!r};"
            f" `helm upgrade {pool.spec.fleet}` writes it again"
        )
    containers[places[0]] = _container(pool, containers[places[0]])
    spec["containers"] = containers
    given = msgspec.to_builtins(pool.spec)
    if "nodeSelector" in given:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **given["nodeSelector"]}
    if "tolerations" in given:
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *given["tolerations"]]
    if pool.spec.topology:
        spec["topologySpreadConstraints"] = _spread(pool)
    return {
        "metadata": {
            "labels": {**(meta.get("labels") or {}), **labels(pool)},
            "annotations": dict(meta.get("annotations") or {}),
        },
        "spec": spec,
    }


def _container(pool: Pool, given: Mapping[str, Any]) -> dict[str, Any]:
    spec, made = pool.spec, dict(given)
    if spec.image:
        made["image"] = spec.image
    if spec.resources != agentpools.Resources():
        made["resources"] = msgspec.to_builtins(spec.resources)
    threads = "" if spec.threads is None else str(spec.threads)
    made["env"] = _set(
        made.get("env") or (),
        {"MIDSTREAMER_AGENT__ENGINE": spec.engine, "MIDSTREAMER_AGENT__THREADS": threads},
    )
    return made


def _set(env: Iterable[Mapping[str, Any]], values: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Variables with some of them set; an empty value leaves one as it is."""
    fresh = {name: value for name, value in values.items() if value}
    kept = [each for each in env if each.get("name") not in fresh]
    return [*kept, *({"name": name, "value": value} for name, value in fresh.items())]


def _spread(pool: Pool) -> list[dict[str, Any]]:
    return [
        {
            "topologyKey": each.topology_key,
            "maxSkew": each.max_skew,
            "whenUnsatisfiable": each.when_unsatisfiable,
            # A node that refuses these agents is no place to count.
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": {"matchLabels": labels(pool)},
        }
        for each in pool.spec.topology
    ]
