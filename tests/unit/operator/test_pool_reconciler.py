"""What the operator decides about a pool of agents, and the conditions in the pool's status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.cluster.api import Object
from midstreamer.domain.errors import BadInput
from midstreamer_operator.plan import pools as plan
from midstreamer_operator.plan.pools import Applied, Decision, Reason, Seen, Story
from midstreamer_operator.resources import agentpools, deployments, pod_waits
from midstreamer_operator.resources.agentpools import Pool
from midstreamer_operator.resources.deployments import Condition, Deployment
from midstreamer_operator.resources.pod_waits import Told, Waiter
from tests.support.operator_builders import NOW_S, RELEASE
from tests.support.pool_builders import NAME, a_deployment, a_pool, a_template


def in_force(pool: Pool, held: Deployment, template: Object | None = None, **more: Any) -> Seen:
    """Return the observation of a pool whose Deployment was applied and has not changed since."""
    template = template or a_template()
    digest = deployments.digest(deployments.wanted(pool, template))
    return Seen(pool, template, held, applied=Applied(digest, held.generation), **more)


def ready_condition(decision: Decision) -> tuple[str, str]:
    """Return reason and message of the condition Ready in the pool's status."""
    assert decision.status is not None
    ready = decision.status.conditions[0]
    assert ready.type == "Ready"
    return ready.reason, ready.message


# --- tests of the Deployment that is applied ------------------------------------------------------


def applied(**spec: Any) -> Object:
    return deployments.wanted(a_pool(**spec), a_template())


def pod_of(deployment: Object) -> Object:
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def agent_of(deployment: Object) -> Object:
    found: Object = pod_of(deployment)["containers"][1]
    return found


def test_a_pool_without_wishes_has_the_pods_of_the_template() -> None:
    deployment, template = applied(), a_template()["template"]

    assert pod_of(deployment) == template["spec"]
    assert deployment["spec"]["template"]["metadata"]["annotations"] == {"settings": "s1"}


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        ({"image": "agent:2"}, "image", "agent:2"),
        (
            {"resources": {"requests": {"cpu": 2}}},
            "resources",
            {"requests": {"cpu": 2}},
        ),
        (
            {"engine": "wasm", "threads": 0},
            "env",
            [
                {"name": "POD_NAME"},
                {"name": "MIDSTREAMER_AGENT__ENGINE", "value": "wasm"},
                {"name": "MIDSTREAMER_AGENT__THREADS", "value": "0"},
            ],
        ),
    ],
)
def test_a_wish_for_the_container_goes_to_the_agent_alone(
    spec: dict[str, Any], field: str, expected: object
) -> None:
    deployment = applied(**spec)

    assert agent_of(deployment)[field] == expected
    assert pod_of(deployment)["containers"][0] == {"name": "beside"}


def test_node_selector_and_tolerations_go_beside_those_of_the_template() -> None:
    deployment = applied(nodeSelector={"disk": "fast"}, tolerations=[{"key": "spot"}])

    assert pod_of(deployment)["nodeSelector"] == {"kubernetes.io/os": "linux", "disk": "fast"}
    assert pod_of(deployment)["tolerations"] == [{"key": "all"}, {"key": "spot"}]


def test_a_topology_replaces_the_one_of_the_template_and_spreads_this_pool_alone() -> None:
    deployment = applied(topology=[{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}])

    (spread,) = pod_of(deployment)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("zone", 1)
    assert spread["labelSelector"]["matchLabels"][agentpools.LABEL] == NAME
    assert spread["nodeTaintsPolicy"] == "Honor"


def test_the_deployment_goes_with_its_pool_and_nothing_waits_for_the_operator() -> None:
    deployment = applied()

    (owner,) = deployment["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("pool-uid", True)
    assert not owner["blockOwnerDeletion"]
    assert "finalizers" not in deployment["metadata"]


def test_labels_select_the_pods_and_the_selector_says_the_same() -> None:
    deployment, pool = applied(), a_pool()

    selected = deployment["spec"]["selector"]["matchLabels"]
    assert selected.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert dict(each.split("=") for each in deployments.selector(pool).split(",")) == selected


def test_a_template_without_an_agent_is_reported() -> None:
    template = a_template()
    template["template"]["spec"]["containers"] = [{"name": "beside"}]

    decision = plan.decide(Seen(a_pool(), template), NOW_S)

    reason, message = ready_condition(decision)
    assert (decision.apply, reason) == (None, "TemplateMissing")
    assert "no container 'agent'" in message


# --- tests of when the Deployment is applied ------------------------------------------------------

IN_FORCE = in_force(a_pool(), a_deployment())


OUT_OF_FORCE = {
    "no deployment": Seen(a_pool(), a_template()),
    "nothing remembered": Seen(a_pool(), a_template(), a_deployment()),
    "another scale": replace(IN_FORCE, pool=a_pool(replicas=3)),
    "another template": replace(IN_FORCE, template=a_template(image="agent:2")),
    "changed by somebody": replace(IN_FORCE, deployment=a_deployment(generation=6)),
}


@pytest.mark.parametrize("seen", OUT_OF_FORCE.values(), ids=OUT_OF_FORCE)
def test_the_deployment_is_applied_when_it_is_not_known_to_be_in_force(seen: Seen) -> None:
    decision = plan.decide(seen, NOW_S)

    assert decision.apply == deployments.wanted(seen.pool, seen.template or {})
    assert decision.status is None


def test_what_is_in_force_is_left_alone() -> None:
    decision = plan.decide(IN_FORCE, NOW_S)

    assert decision.apply is None
    assert ready_condition(decision) == ("AllReady", "2 of 2 agents ready")
    assert not decision.waits


# --- tests of cases in which the operator does not apply a Deployment -----------------------------

HINDERED = {
    "no template": (Seen(a_pool()), "TemplateMissing", "PodTemplate mid-agent is missing"),
    "an older template": (
        Seen(a_pool(templateRevision="r2"), a_template("r1")),
        "TemplateMissing",
        "has revision r1, but the pool waits for revision r2",
    ),
    "a Deployment of nobody": (
        replace(IN_FORCE, deployment=a_deployment(owner_uid="", owner="")),
        "NameTaken",
        "Deployment mid-agent exists and has no owner; delete the Deployment",
    ),
    "another one's Deployment": (
        replace(IN_FORCE, deployment=a_deployment(owner_uid="x", owner="Rollout web")),
        "NameTaken",
        "belongs to Rollout web",
    ),
    "an earlier Deployment": (
        replace(IN_FORCE, deployment=a_deployment(is_going=True)),
        "Starting",
        "is being deleted",
    ),
}
"""Cases in which the operator does not apply a Deployment.

Each case has: what the operator sees, the reason that it reports, and a part of its message.
"""


@pytest.mark.parametrize(("seen", "reason", "words"), HINDERED.values(), ids=HINDERED)
def test_what_is_not_the_pools_is_not_touched_and_the_pool_says_why(
    seen: Seen, reason: str, words: str
) -> None:
    decision = plan.decide(seen, NOW_S)

    assert decision.apply is None
    assert ready_condition(decision)[0] == reason
    assert words in ready_condition(decision)[1]
    assert decision.waits


def test_nothing_is_done_about_a_pool_that_is_being_deleted() -> None:
    going = msgspec.structs.replace(a_pool(), is_going=True)

    assert plan.decide(Seen(going, a_template()), NOW_S) == Decision()


def test_a_pool_made_by_hand_takes_any_revision_of_the_template() -> None:
    decision = plan.decide(Seen(a_pool(templateRevision=""), a_template("r9")), NOW_S)

    assert decision.apply is not None


# --- tests of the reasons why a pool is not ready -------------------------------------------------

SHORT = a_deployment(ready=1)


def a_waiter(**changes: Any) -> Waiter:
    return msgspec.structs.replace(Waiter(name="p1", uid="u1"), **changes)


def waiting_for(pod: Waiter, *events: Told) -> Seen:
    return in_force(a_pool(), SHORT, pods=(pod,), events={pod.name: events})


def failing(message: str) -> Deployment:
    condition = Condition("ReplicaFailure", "True", "FailedCreate", message)
    return a_deployment(ready=1, conditions=(condition,))


CAUSES = {
    "a full quota": (
        in_force(a_pool(), failing("pods is forbidden: exceeded quota: small")),
        "PodsRefused",
        "1 of 2 agents ready: pods is forbidden: exceeded quota: small",
    ),
    "no node": (
        waiting_for(a_waiter(unscheduled="0/2 nodes are available: 2 Insufficient cpu.")),
        "Unschedulable",
        "1 of 2 agents ready: no node takes pod p1: 0/2 nodes are available: 2 Insufficient cpu.",
    ),
    "an image": (
        waiting_for(
            a_waiter(waits="ImagePullBackOff", why="Back-off pulling", image="agent:9"),
            Told("Failed", "no such manifest"),
        ),
        "ImageNotPulled",
        "1 of 2 agents ready: pod p1: image agent:9 cannot be pulled: no such manifest",
    ),
    "an image without Events": (
        waiting_for(a_waiter(waits="ErrImageNeverPull", why="not present", image="agent:9")),
        "ImageNotPulled",
        "1 of 2 agents ready: pod p1: image agent:9 cannot be pulled: not present",
    ),
    "a Secret that it names": (
        waiting_for(a_waiter(waits="CreateContainerConfigError", why='secret "x" not found')),
        "NotStarted",
        '1 of 2 agents ready: pod p1: CreateContainerConfigError: secret "x" not found',
    ),
    "a volume": (
        waiting_for(a_waiter(), Told("FailedMount", 'configmap "mid-config" not found')),
        "NotStarted",
        '1 of 2 agents ready: pod p1: configmap "mid-config" not found',
    ),
    "a crash": (
        waiting_for(a_waiter(waits="CrashLoopBackOff", why="back-off", last_words="no AVX2")),
        "Crashing",
        "1 of 2 agents ready: pod p1 crashes after each restart: no AVX2",
    ),
    "a denial": (
        waiting_for(a_waiter(), Told("WrongKind", "is sync")),
        "CertificateDenied",
        "1 of 2 agents ready: pod p1 is denied a certificate: WrongKind: is sync",
    ),
    "a certificate": (
        waiting_for(a_waiter(), Told("WaitingForCertificate", "is the operator there?")),
        "NotReady",
        "1 of 2 agents ready: pod p1: is the operator there?",
    ),
    "what it says last": (
        waiting_for(
            a_waiter(),
            Told("WaitingForCertificate", "later", "2026-01-01T00:00:02Z"),
            Told("WrongKind", "earlier", "2026-01-01T00:00:01Z"),
        ),
        "NotReady",
        "1 of 2 agents ready: pod p1: later",
    ),
    "a restart": (
        waiting_for(a_waiter(last_words="OOMKilled, exit code 137")),
        "NotReady",
        "1 of 2 agents ready: pod p1 was restarted: OOMKilled, exit code 137",
    ),
    "nothing known": (waiting_for(a_waiter()), "Starting", "1 of 2 agents ready"),
    "a roll": (
        in_force(a_pool(), a_deployment(replicas=3, updated=1)),
        "Rolling",
        "2 of 2 agents ready, 1 of 2 of the current template",
    ),
    "Kubernetes": (
        in_force(a_pool(), a_deployment(observed_generation=4)),
        "Starting",
        "2 of 2 agents ready; Kubernetes has not handled the Deployment yet",
    ),
}


@pytest.mark.parametrize(("seen", "reason", "message"), CAUSES.values(), ids=CAUSES)
def test_one_line_says_what_is_waited_for(seen: Seen, reason: str, message: str) -> None:
    decision = plan.decide(seen, NOW_S)

    assert ready_condition(decision) == (reason, message)
    assert decision.waits


def test_what_needs_somebody_is_said_before_what_mends_by_itself() -> None:
    pods = (a_waiter(name="a", last_words="OOMKilled"), a_waiter(name="b", unscheduled="full"))

    decision = plan.decide(in_force(a_pool(), SHORT, pods=pods), NOW_S)

    assert ready_condition(decision)[0] == "Unschedulable"


def test_pods_that_are_ready_or_going_are_not_blamed() -> None:
    pods = (
        a_waiter(name="a", unscheduled="full", is_going=True),
        a_waiter(name="b", last_words="OOMKilled", is_ready=True),
    )

    assert (
        ready_condition(plan.decide(in_force(a_pool(), SHORT, pods=pods), NOW_S))[0] == "Starting"
    )


def test_a_refusal_of_the_api_server_is_quoted_and_not_retried_at_once() -> None:
    seen = Seen(a_pool(), a_template(), refusal="PATCH: 422: limits: must be greater")

    decision = plan.decide(seen, NOW_S)

    assert decision.apply is None
    assert ready_condition(decision) == ("DeploymentRefused", "PATCH: 422: limits: must be greater")


@pytest.mark.parametrize("reason", Reason)
def test_ready_and_progressing_are_never_both_true(reason: Reason) -> None:
    status = plan.status_of(IN_FORCE, Story(reason, "why"), NOW_S)

    ready, progressing = (each.status == "True" for each in status.conditions)
    assert ready == (reason is Reason.ALL_READY)
    assert progressing == (reason in plan.MENDING)


def test_a_condition_keeps_its_time_while_its_status_holds() -> None:
    first = plan.status_of(IN_FORCE, Story(Reason.STARTING, "one"), NOW_S)
    pool = a_pool(status=first)

    same = plan.status_of(in_force(pool, SHORT), Story(Reason.STARTING, "two"), NOW_S + 9)
    other = plan.status_of(in_force(pool, SHORT), Story(Reason.ALL_READY, "all"), NOW_S + 9)

    assert same.conditions[0].last_transition_time == first.conditions[0].last_transition_time
    assert other.conditions[0].last_transition_time == "2027-01-15T08:00:09Z"


def test_a_status_that_says_the_same_is_not_written_again() -> None:
    status = plan.decide(IN_FORCE, NOW_S).status
    assert status is not None

    again = plan.decide(in_force(a_pool(status=status), a_deployment()), NOW_S + 60)

    assert again == Decision()


counts = st.integers(0, 4)


@given(counts, counts, counts, counts, st.booleans())
@settings(max_examples=300)
def test_ready_means_that_all_of_the_present_template_are_ready(
    wanted: int, replicas: int, updated: int, ready: int, is_seen: bool
) -> None:
    held = a_deployment(
        wanted=wanted,
        replicas=replicas,
        updated=updated,
        ready=ready,
        observed_generation=5 if is_seen else 4,
    )
    decision = plan.decide(in_force(a_pool(replicas=wanted), held), NOW_S)

    is_ready = is_seen and replicas == updated == ready == wanted
    assert (ready_condition(decision)[0] == "AllReady") == is_ready
    assert decision.waits == (not is_ready)
    assert decision.status is not None
    assert (decision.status.replicas, decision.status.ready_replicas) == (replicas, ready)


@given(st.text(max_size=3000))
def test_a_message_is_one_line_of_bounded_length_whatever_the_server_says(text: str) -> None:
    message = ready_condition(plan.decide(Seen(a_pool(), a_template(), refusal=f"x{text}"), NOW_S))[
        1
    ]

    assert len(message.splitlines()) == 1
    assert len(message) <= plan.MESSAGE_CHARACTERS_MAX


# --- tests of reading pods, events and pools from the API server ----------------------------------


def test_a_pod_tells_what_it_waits_for() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    stuck = {"image": "agent:9", "state": {"waiting": {"reason": "W", "message": "why"}}}
    status = {
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{**stuck, "lastState": {"terminated": ended}}],
    }

    pod = pod_waits.read({"metadata": {"name": "p", "uid": "u"}, "status": status})

    assert (pod.waits, pod.why, pod.image) == ("W", "why", "agent:9")
    assert pod.last_words == "OOMKilled, exit code 137"
    assert (pod.unscheduled, pod.is_ready, pod.is_going) == ("", False, False)


def test_what_is_no_warning_is_not_heard() -> None:
    normal = {"type": "Normal", "reason": "Pulled", "message": "m"}

    assert pod_waits.warning(normal) is None
    assert pod_waits.warning({**normal, "type": "Warning"}) == Told("Pulled", "m")


def test_a_pool_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadInput, match="AgentPool mid-agent cannot be read"):
        agentpools.read({"metadata": {"name": NAME}, "spec": {"fleet": RELEASE, "replicas": "x"}})
