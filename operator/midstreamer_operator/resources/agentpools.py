"""An AgentPool: agents that are scaled together; what stands here is the custom resource.

`python -m docs.generate` makes the CustomResourceDefinition of it: types and bounds from the
annotations, descriptions from the docstrings, and from `RULES` what depends on other fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from midstreamer_operator.resources import reading

GROUP, VERSION, PLURAL, KIND = "midstreamer.dev", "v1alpha1", "agentpools", "AgentPool"
API_VERSION = f"{GROUP}/{VERSION}"
LABEL = f"{GROUP}/pool"
"""Names the pool of a pod, and of what makes its pods."""
NAME_CHARACTERS_MAX = 46
"""Names of pods are 17 longer, and have 63 at most."""


class Rule(NamedTuple):
    """What must hold of several fields together, in CEL, and what to do when it does not."""

    holds: str
    message: str


class _Made(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=False
):
    RULES: ClassVar[tuple[Rule, ...]] = ()


Word: TypeAlias = Annotated[str, Meta(max_length=253)]
Value: TypeAlias = Annotated[str, Meta(max_length=63)]
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
Quantity: TypeAlias = Annotated[str, Meta(max_length=24, pattern=QUANTITY)]
Quantities: TypeAlias = Annotated[dict[str, int | Quantity], Meta(max_length=16)]


class Resources(_Made, frozen=True):
    """What one agent asks for, and what it may take at most."""

    RULES = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name,"
            " !(name in self.limits) || quantity(string(self.requests[name])).compareTo("
            "quantity(string(self.limits[name]))) <= 0)",
            "a request is above its limit; raise the limit, or lower the request",
        ),
    )

    requests: Quantities = {}
    """As `{cpu: "1", memory: 2Gi}`; the scheduler finds a node that has so much left."""
    limits: Quantities = {}
    """An agent above its limit of memory is killed."""


class Toleration(_Made, frozen=True):
    """A taint of nodes that agents of this pool put up with."""

    RULES = (
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            "operator Exists takes no value; leave the value out, or write operator: Equal",
        ),
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "without a key the operator must be Exists: it puts up with every taint",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds goes with effect: NoExecute alone",
        ),
    )

    key: Word = ""
    """The taint's key."""
    operator: Literal["", "Exists", "Equal"] = ""
    """How the value is compared; Equal unless it is set."""
    value: Value = ""
    """The taint's value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Which effect of the taint; every one unless it is set."""
    toleration_seconds: Annotated[int, Meta(ge=0)] | None = None
    """How long a running agent stays on a node that gets the taint."""


class Spread(_Made, frozen=True):
    """How agents of this pool are spread over places: nodes, zones."""

    topology_key: Annotated[str, Meta(min_length=1, max_length=253)]
    """Label of nodes that names the place, as `topology.kubernetes.io/zone`."""
    max_skew: Annotated[int, Meta(ge=1, le=100)] = 1
    """How many more agents one place may have than another."""
    when_unsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"] = "ScheduleAnyway"
    """Whether an agent waits when the spread cannot be kept."""


class Spec(_Made, frozen=True, kw_only=True):
    """What a pool should be. What is left out is as the chart's template of agents has it."""

    RULES = (
        Rule("self.fleet == oldSelf.fleet", "fleet cannot change; make another pool"),
        Rule(
            "!has(self.threads) || self.threads == 0 || !has(self.resources) ||"
            " !has(self.resources.limits) || !('cpu' in self.resources.limits) ||"
            " double(self.threads) <="
            " quantity(string(self.resources.limits['cpu'])).asApproximateFloat()",
            "threads is above resources.limits.cpu, which gains nothing; lower threads, raise the"
            " limit, or write 0 for as many as the limit allows",
        ),
    )

    fleet: Annotated[str, Meta(min_length=1, max_length=40)]
    """Name of the Helm release whose agents these are."""
    replicas: Annotated[int, Meta(ge=0, le=1000)] = 2
    """How many agents. `kubectl scale` and autoscalers write it."""
    template_revision: Annotated[str, Meta(max_length=63)] = ""
    """Revision of the PodTemplate to wait for. The chart sets it, so that whoever waits for the
    pool waits for the roll as well; pools made by hand leave it out."""
    image: Annotated[str, Meta(max_length=512)] = ""
    """Image of these agents."""
    engine: Literal["", "auto", "numba", "wasm"] = ""
    """How windows are compared; the setting `agent.engine`."""
    threads: Annotated[int, Meta(ge=0, le=256)] | None = None
    """Threads that compare windows, 0 for one per processor; the setting `agent.threads`."""
    resources: Resources = Resources()
    """What one agent asks for, and what it may take at most."""
    node_selector: Annotated[dict[str, Value], Meta(max_length=16)] = {}
    """Labels that a node must have, beside those of the template."""
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=16)] = ()
    """Taints that these agents put up with, beside those of the template."""
    topology: Annotated[tuple[Spread, ...], Meta(max_length=8)] = ()
    """How these agents are spread over places."""


class Condition(_Made, frozen=True, kw_only=True):
    """One thing that holds of a pool or does not, and why."""

    KEY: ClassVar[str] = "type"

    type: Annotated[str, Meta(min_length=1, max_length=63)]
    """`Ready`: as many agents as wanted are ready, each of the present template. `Progressing`:
    something is under way."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Meta(min_length=1, max_length=63)]
    """Why, in a word."""
    message: Annotated[str, Meta(max_length=1024)] = ""
    """Why, in a line: what is waited for."""
    last_transition_time: str
    """Since when the status is so."""
    observed_generation: Annotated[int, Meta(ge=0)] = 0
    """Generation of the pool that this was said of."""


class Status(_Made, frozen=True, kw_only=True):
    """What a pool is."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    """Generation of the pool that the operator saw last."""
    replicas: Annotated[int, Meta(ge=0)] = 0
    """Agents that there are."""
    ready_replicas: Annotated[int, Meta(ge=0)] = 0
    """Those of them that are ready."""
    selector: Annotated[str, Meta(max_length=512)] = ""
    """Label selector of the pool's pods, as autoscalers want it."""
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=8)] = ()
    """What holds of the pool and what does not."""


ROOT_RULES = (
    Rule(
        "self.metadata.name == self.spec.fleet + '-agent' ||"
        " self.metadata.name.startsWith(self.spec.fleet + '-agent-')",
        "the name must be <fleet>-agent, or begin with <fleet>-agent-: the pods take it, and the"
        " allowlist lets agents in by it",
    ),
    Rule(
        f"size(self.metadata.name) <= {NAME_CHARACTERS_MAX}",
        f"the name may have {NAME_CHARACTERS_MAX} characters, so that names of pods have 63",
    ),
)
"""What must hold of the whole object."""
UNSEEN = Condition(
    type="Ready",
    status="Unknown",
    reason="Unseen",
    message="no operator has seen this pool yet; is the operator of its fleet running?",
    last_transition_time="1970-01-01T00:00:00Z",
)
"""What is said of a pool before anybody has seen it."""


class _Object(msgspec.Struct, frozen=True):
    metadata: reading.Meta = reading.Meta()
    spec: Spec = Spec(fleet="?")
    status: Status = Status()


class Pool(msgspec.Struct, frozen=True):
    """A pool as it was read."""

    name: str
    uid: str
    generation: int
    spec: Spec
    status: Status = Status()
    is_going: bool = False


def read(given: Mapping[str, Any]) -> Pool:
    """A pool from the object that the API server gave; BadInput when it is none."""
    made = reading.converted(given, _Object, KIND)
    meta = made.metadata
    is_going = meta.deletion_timestamp is not None
    return Pool(meta.name, meta.uid, meta.generation, made.spec, made.status, is_going)


def path(namespace: str, name: str = "") -> str:
    """Where the API server has the pools of a namespace, or one of them."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}" + (f"/{name}" if name else "")


def told(pool: Pool, status: Status) -> dict[str, Any]:
    """The status of a pool, as it is applied."""
    said = msgspec.to_builtins(status)
    # An absent number is no number: autoscalers want to read a zero.
    said |= {"replicas": status.replicas, "readyReplicas": status.ready_replicas}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": pool.name},
        "status": said,
    }
