"""The custom resource AgentPool: agents of one fleet that are alike and scaled together.

`python -m tools.docs.generate` makes the CustomResourceDefinition from this module: types and
bounds from the annotations, descriptions from the docstrings, and rules over several fields from
`RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from midstreamer_operator.resources import object_reading

GROUP, VERSION, PLURAL, KIND = "midstreamer.dev", "v1alpha1", "agentpools", "AgentPool"
API_VERSION = f"{GROUP}/{VERSION}"
LABEL = f"{GROUP}/pool"
"""Label of pods, ReplicaSets and Deployments; its value is the name of their pool."""
NAME_CHARACTERS_MAX = 46
"""Longest name of a pool. Names of its pods are 17 characters longer, and 63 is their limit."""


class Rule(NamedTuple):
    """A condition on several fields, as a CEL expression, and the message when it is violated."""

    holds: str
    message: str


class _Made(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=False
):
    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Conditions that the API server checks when an object is written."""


Word: TypeAlias = Annotated[str, Meta(max_length=253)]
Value: TypeAlias = Annotated[str, Meta(max_length=63)]
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
Quantity: TypeAlias = Annotated[str, Meta(max_length=24, pattern=QUANTITY)]
Quantities: TypeAlias = Annotated[dict[str, int | Quantity], Meta(max_length=16)]


class Resources(_Made, frozen=True):
    """Resources that one agent requests, and their limits."""

    RULES = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name,"
            " !(name in self.limits) || quantity(string(self.requests[name])).compareTo("
            "quantity(string(self.limits[name]))) <= 0)",
            "a request is above its limit; raise the limit, or lower the request",
        ),
    )

    requests: Quantities = {}
    """Requested resources, such as `{cpu: "1", memory: 2Gi}`. The scheduler picks a node that has
    them free."""
    limits: Quantities = {}
    """Limits of resources. An agent that exceeds its memory limit is killed."""


class Toleration(_Made, frozen=True):
    """A taint of nodes that agents of this pool tolerate."""

    RULES = (
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            "operator Exists takes no value; leave out value, or set operator to Equal",
        ),
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "without key the operator must be Exists, which tolerates every taint; set one of the"
            " two",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds is allowed only with effect NoExecute; set effect, or leave it out",
        ),
    )

    key: Word = ""
    """Key of the taint."""
    operator: Literal["", "Exists", "Equal"] = ""
    """How the value of the taint is compared. Default: Equal."""
    value: Value = ""
    """Value of the taint."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Effect of the taint. Default: every effect."""
    toleration_seconds: Annotated[int, Meta(ge=0)] | None = None
    """Seconds that a running agent stays on a node after the node gets the taint. Default: no
    limit."""


class Spread(_Made, frozen=True):
    """How agents of this pool are spread over topology domains, such as nodes or zones."""

    topology_key: Annotated[str, Meta(min_length=1, max_length=253)]
    """Label of nodes whose value names the domain, such as `topology.kubernetes.io/zone`."""
    max_skew: Annotated[int, Meta(ge=1, le=100)] = 1
    """Maximum difference between the numbers of agents in two domains."""
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = "ScheduleAnyway"
    """What happens when an agent cannot start without breaking the spread: with `ScheduleAnyway` it
    starts all the same, with `DoNotSchedule` it waits."""


class Spec(_Made, frozen=True, kw_only=True):
    """Desired state of a pool. Fields that are left out are as in the chart's PodTemplate."""

    RULES = (
        Rule("self.fleet == oldSelf.fleet", "fleet cannot be changed; create another pool"),
        Rule(
            "!has(self.threads) || self.threads == 0 || !has(self.resources) ||"
            " !has(self.resources.limits) || !('cpu' in self.resources.limits) ||"
            " double(self.threads) <="
            " quantity(string(self.resources.limits['cpu'])).asApproximateFloat()",
            "threads is above resources.limits.cpu, which gains nothing; lower threads, raise the"
            " limit, or set threads to 0 for one per processor",
        ),
    )

    fleet: Annotated[str, Meta(min_length=1, max_length=40)]
    """Name of the Helm release that the agents belong to."""
    replicas: Annotated[int, Meta(ge=0, le=1000)] = 2
    """Number of agents. `kubectl scale` and autoscalers set this field."""
    template_revision: Annotated[str, Meta(max_length=63)] = ""
    """Revision of the PodTemplate that the pool waits for. The chart sets this field, so that
    `helm upgrade --wait` waits until all agents are replaced. Leave it out in your own pools."""
    image: Annotated[str, Meta(max_length=512)] = ""
    """Image of these agents. Default: that of the PodTemplate."""
    engine: Literal["", "auto", "numba", "wasm"] = ""
    """Engine that compares windows: the setting `agent.engine`."""
    threads: Annotated[int, Meta(ge=0, le=256)] | None = None
    """Number of threads that compare windows, 0 for one per processor: the setting
    `agent.threads`."""
    resources: Resources = Resources()
    """Resources that one agent requests, and their limits."""
    node_selector: Annotated[dict[str, Value], Meta(max_length=16)] = {}
    """Labels that a node must have, in addition to those of the PodTemplate."""
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=16)] = ()
    """Taints that these agents tolerate, in addition to those of the PodTemplate."""
    topology: Annotated[tuple[Spread, ...], Meta(max_length=8)] = ()
    """How these agents are spread over nodes or zones; replaces the spread of the PodTemplate."""


class Condition(_Made, frozen=True, kw_only=True):
    """One condition of a pool: whether it holds, and why."""

    KEY: ClassVar[str] = "type"

    type: Annotated[str, Meta(min_length=1, max_length=63)]
    """Type of the condition. `Ready`: as many agents as wanted are ready, and all run the current
    template. `Progressing`: the pool becomes ready without further action."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    reason: Annotated[str, Meta(min_length=1, max_length=63)]
    """Reason for the status, in one word."""
    message: Annotated[str, Meta(max_length=1024)] = ""
    """Reason for the status, in one line: what the pool waits for."""
    last_transition_time: str
    """Time of the last change of the status."""
    observed_generation: Annotated[int, Meta(ge=0)] = 0
    """Generation of the pool that the condition describes."""


class Status(_Made, frozen=True, kw_only=True):
    """Observed state of a pool."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    """Generation of the pool that the operator last handled."""
    replicas: Annotated[int, Meta(ge=0)] = 0
    """Number of agents that exist."""
    ready_replicas: Annotated[int, Meta(ge=0)] = 0
    """Number of agents that are ready."""
    selector: Annotated[str, Meta(max_length=512)] = ""
    """Label selector of the pool's pods, which autoscalers need."""
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=8)] = ()
    """Conditions of the pool: `Ready` and `Progressing`."""


ROOT_RULES = (
    Rule(
        "self.metadata.name == self.spec.fleet + '-agent' ||"
        " self.metadata.name.startsWith(self.spec.fleet + '-agent-')",
        "the name must be <fleet>-agent, or begin with <fleet>-agent-, because names of pods begin"
        " with it, and the allowlist admits agents by these names",
    ),
    Rule(
        f"size(self.metadata.name) <= {NAME_CHARACTERS_MAX}",
        f"the name may have at most {NAME_CHARACTERS_MAX} characters, because names of pods are 17"
        " longer and may have at most 63; shorten it",
    ),
)
"""Conditions on the whole AgentPool, in addition to those on its spec."""
UNSEEN = Condition(
    type="Ready",
    status="Unknown",
    reason="Unseen",
    message="no operator has handled this pool yet; check that the operator of its fleet runs",
    last_transition_time="1970-01-01T00:00:00Z",
)
"""Default condition of a new pool, before the operator has handled it."""


class _Object(msgspec.Struct, frozen=True):
    metadata: object_reading.Meta = object_reading.Meta()
    spec: Spec = Spec(fleet="?")
    status: Status = Status()


class Pool(msgspec.Struct, frozen=True):
    """An AgentPool as it was read from the API server."""

    name: str
    uid: str
    generation: int
    spec: Spec
    status: Status = Status()
    is_going: bool = False
    """Whether the pool is being deleted."""


def read(given: Mapping[str, Any]) -> Pool:
    """Convert an object of the API server to a pool; raise BadInput when it is no AgentPool."""
    agent_pool = object_reading.converted(given, _Object, KIND)
    meta = agent_pool.metadata
    is_going = meta.deletion_timestamp is not None
    return Pool(meta.name, meta.uid, meta.generation, agent_pool.spec, agent_pool.status, is_going)


def path(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's pools at the API server, or of the pool ``name``."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}" + (f"/{name}" if name else "")


def told(pool: Pool, status: Status) -> dict[str, Any]:
    """Return the object that the operator applies at the API server to set a pool's status."""
    fields = msgspec.to_builtins(status)
    # Zeros are written too, because autoscalers need the numbers.
    fields |= {"replicas": status.replicas, "readyReplicas": status.ready_replicas}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": pool.name},
        "status": fields,
    }
