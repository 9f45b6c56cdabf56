"""Make the Deployment that the operator wants for a pool, and read an existing Deployment.

The pods of the Deployment are made from the chart's PodTemplate; fields of the pool override those
of the template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from midstreamer.domain.errors import BadInput
from midstreamer_operator.resources import agentpools, object_reading
from midstreamer_operator.resources.agentpools import Pool

CONTAINER = "agent"
"""Name of the container in the PodTemplate that runs the agent."""
REVISION = f"{agentpools.GROUP}/revision"
"""Annotation of a PodTemplate with its revision."""
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "midstreamer-operator"
HISTORY = 2
"""Number of earlier ReplicaSets that the Deployment keeps."""


class _Owner(msgspec.Struct, frozen=True):
    uid: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Meta(object_reading.Meta, frozen=True, rename="camel"):
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
    """A Deployment as it was read from the API server."""

    name: str
    owner_uid: str = ""
    """Uid of the object that controls the Deployment; empty when no object does."""
    owner: str = ""
    """Kind and name of the controlling object, for messages."""
    generation: int = 0
    observed_generation: int = 0
    """Generation that the Deployment controller of Kubernetes has handled."""
    wanted: int = 0
    """Number of pods that the spec asks for."""
    replicas: int = 0
    """Number of pods that exist."""
    updated: int = 0
    """Number of pods that were made from the current template."""
    ready: int = 0
    """Number of pods that are ready."""
    conditions: tuple[Condition, ...] = ()
    is_going: bool = False
    """Whether the Deployment is being deleted."""

    def told(self, type: str, status: str) -> Condition | None:
        """Return the condition of this type, or None when it is missing or has another status."""
        same = (each for each in self.conditions if (each.type, each.status) == (type, status))
        return next(same, None)

    @property
    def is_whole(self) -> bool:
        """Whether as many pods exist as wanted, and all are ready and of the current template."""
        seen = self.observed_generation >= self.generation
        return seen and self.replicas == self.updated == self.ready == self.wanted


def read(given: Mapping[str, Any]) -> Deployment:
    """Convert an object of the API server; raise BadInput when it is no Deployment."""
    deployment = object_reading.converted(given, _Object, "Deployment")
    meta, status = deployment.metadata, deployment.status
    owner = next((each for each in meta.owner_references if each.controller), _Owner())
    return Deployment(
        name=meta.name,
        owner_uid=owner.uid,
        owner=f"{owner.kind} {owner.name}".strip(),
        generation=meta.generation,
        observed_generation=status.observed_generation,
        wanted=deployment.spec.replicas,
        replicas=status.replicas,
        updated=status.updated_replicas,
        ready=status.ready_replicas,
        conditions=status.conditions,
        is_going=meta.deletion_timestamp is not None,
    )


def template_name(release: str) -> str:
    """Return the name of the PodTemplate from which an installation's agents are made."""
    return f"{release}-agent"


def revision(template: Mapping[str, Any]) -> str:
    """Return the revision of a PodTemplate; empty when it lacks the annotation `REVISION`."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(REVISION) or "")


def labels(pool: Pool) -> dict[str, str]:
    """Return the labels that select the pods of a pool."""
    return {INSTANCE: pool.spec.fleet, COMPONENT: "agent", agentpools.LABEL: pool.name}


def selector(pool: Pool) -> str:
    """Return the label selector of a pool's pods as text, ``name=value,name=value``."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels(pool).items()))


def wanted(pool: Pool, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Deployment that the operator applies at the API server for a pool.

    Raise BadInput when the PodTemplate has no container named `agent`.
    """
    pods = _pods(pool, template)
    owner = {
        "apiVersion": agentpools.API_VERSION,
        "kind": agentpools.KIND,
        "name": pool.name,
        "uid": pool.uid,
        "controller": True,
        # With true here the operator would need the right to update finalizers of AgentPools.
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
    """Return the SHA-256 of an object as JSON, hexadecimal; the order of its keys has no effect."""
    return hashlib.sha256(msgspec.json.encode(made, order="deterministic")).hexdigest()


def _pods(pool: Pool, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod template of the Deployment: the chart's, changed by the pool's fields."""
    found = template.get("template") or {}
    meta, spec = found.get("metadata") or {}, dict(found.get("spec") or {})
    containers = list(spec.get("containers") or ())
    indices = [at for at, each in enumerate(containers) if each.get("name") == CONTAINER]
    if not indices:
        raise BadInput(
            f"PodTemplate {template_name(pool.spec.fleet)} has no container {CONTAINER!r};"
            f" `helm upgrade {pool.spec.fleet}` writes the PodTemplate again"
        )
    containers[indices[0]] = _container(pool, containers[indices[0]])
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
    """Return the agent's container with image, resources and settings of the pool."""
    spec, container = pool.spec, dict(given)
    if spec.image:
        container["image"] = spec.image
    if spec.resources != agentpools.Resources():
        container["resources"] = msgspec.to_builtins(spec.resources)
    threads = "" if spec.threads is None else str(spec.threads)
    container["env"] = _set(
        container.get("env") or (),
        {"MIDSTREAMER_AGENT__ENGINE": spec.engine, "MIDSTREAMER_AGENT__THREADS": threads},
    )
    return container


def _set(env: Iterable[Mapping[str, Any]], values: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return ``env`` with the variables of ``values`` set to their new values.

    A variable whose new value is empty stays as it is in ``env``.
    """
    fresh = {name: value for name, value in values.items() if value}
    kept = [each for each in env if each.get("name") not in fresh]
    return [*kept, *({"name": name, "value": value} for name, value in fresh.items())]


def _spread(pool: Pool) -> list[dict[str, Any]]:
    """Return the topology spread constraints of a pool's pods."""
    return [
        {
            "topologyKey": each.topology_key,
            "maxSkew": each.max_skew,
            "whenUnsatisfiable": each.when_unsatisfiable,
            # Agents are spread over the nodes that may run them: nodes with a taint that agents
            # of this pool do not tolerate are left out of the calculation.
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": {"matchLabels": labels(pool)},
        }
        for each in pool.spec.topology
    ]
