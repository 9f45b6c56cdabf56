"""Pools of agents are made, scaled and deleted with kubectl; each reports what it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from midstreamer_operator.resources import agentpools
from tests.cluster import commands_here, releases
from tests.cluster.releases import Release

pytestmark = [pytest.mark.cluster]

READY = "--for=condition=Ready"
WITHIN = "--timeout=60s"


def named(release: Release, pool: str) -> str:
    return f"{release.name}-agent-{pool}"


def manifest(release: Release, pool: str, **spec: Any) -> dict[str, Any]:
    """Return the manifest of a pool of one agent with small resource requests."""
    asked = {"requests": {"cpu": "50m", "memory": "160Mi"}}
    return {
        "apiVersion": agentpools.API_VERSION,
        "kind": agentpools.KIND,
        "metadata": {"name": named(release, pool)},
        "spec": {"fleet": release.name, "replicas": 1, "resources": asked, **spec},
    }


def apply(release: Release, made: dict[str, Any], *words: str) -> str:
    return release.kubernetes("apply", "-f", "-", *words, stdin=json.dumps(made))


@contextmanager
def a_pool(release: Release, pool: str, **spec: Any) -> Iterator[str]:
    """Make a pool and return its name; at the end of the block, delete the pool and its pods."""
    pool_manifest = manifest(release, pool, **spec)
    apply(release, pool_manifest)
    name = pool_manifest["metadata"]["name"]
    try:
        yield name
    finally:
        release.kubernetes("delete", f"agentpool/{name}", "--ignore-not-found", WITHIN)
        commands_here.until(
            f"the pods of {name} are gone",
            lambda: not pods(release, name),
            timeout_s=90.0,
        )


def pods(release: Release, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = release.kubernetes.get(
        "pods", "-l", f"{agentpools.LABEL}={name}"
    )["items"]
    return found


def condition(release: Release, name: str) -> dict[str, str]:
    status = release.kubernetes.get(f"agentpool/{name}").get("status", {})
    found: dict[str, str] = next(
        (each for each in status.get("conditions", ()) if each["type"] == "Ready"), {}
    )
    return found


def becomes(release: Release, name: str, reason: str) -> str:
    """Wait until the pool's condition Ready has this reason; return its message."""
    found = commands_here.eventually(
        f"pool {name} says {reason}",
        lambda: condition(release, name),
        lambda told: told.get("reason") == reason,
    )
    return found["message"]


def without_operator(release: Release) -> None:
    name = f"{release.name}-operator"
    selector = f"{releases.INSTANCE}={release.name},{releases.COMPONENT}=operator"
    release.kubernetes("scale", "deployment", name, "--replicas=0")
    release.kubernetes("wait", "--for=delete", "pod", "-l", selector, WITHIN)


def with_operator(release: Release) -> None:
    release.kubernetes("scale", "deployment", f"{release.name}-operator", "--replicas=2")
    release.wait_ready()


def test_the_fleet_s_own_pool_says_in_one_line_that_it_is_ready(release: Release) -> None:
    name = f"{release.name}-agent"
    columns = release.kubernetes("get", "agentpool", name, "--no-headers").split()

    assert condition(release, name)["message"] == "2 of 2 agents ready"
    assert columns[:4] == [name, "2", "2", "AllReady"]


def test_a_pool_of_ten_lines_is_ready_and_gone_when_it_is_deleted(release: Release) -> None:
    with a_pool(release, "small", engine="wasm", threads=1) as name:
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)

        (pod,) = pods(release, name)
        env = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
        assert releases.is_ready(pod)
        assert (env["MIDSTREAMER_AGENT__ENGINE"], env["MIDSTREAMER_AGENT__THREADS"]) == (
            "wasm",
            "1",
        )
    assert release.kubernetes("get", "deployment", name, "--ignore-not-found") == ""


def test_kubectl_scales_a_pool_as_it_scales_a_deployment(release: Release) -> None:
    with a_pool(release, "scaled", replicas=0) as name:
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)

        release.kubernetes("scale", f"agentpool/{name}", "--replicas=2")
        commands_here.eventually(
            "the pool is not ready while it scales",
            lambda: condition(release, name),
            lambda told: told["status"] == "False",
        )
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)

        scale = json.loads(
            release.kubernetes(
                "get",
                "--raw",
                f"{agentpools.path(release.namespace, name)}/scale",
            )
        )
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
        assert f"{agentpools.LABEL}={name}" in scale["status"]["selector"]


def test_an_operator_that_is_killed_in_between_is_picked_up(release: Release) -> None:
    selector = f"{releases.INSTANCE}={release.name},{releases.COMPONENT}=operator"
    with a_pool(release, "between") as name:
        release.kubernetes("delete", "pod", "-l", selector, "--grace-period=0", "--force")

        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)

        assert len(pods(release, name)) == 1
    release.wait_ready()


def test_without_an_operator_pods_go_on_and_a_deletion_does_not_hang(release: Release) -> None:
    with a_pool(release, "alone") as name:
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)
        before = {pod["metadata"]["uid"] for pod in release.pods("agent")}
        without_operator(release)
        try:
            going_on = {p["metadata"]["uid"] for p in release.pods("agent") if releases.is_ready(p)}
            apply(release, manifest(release, "unseen"))
            unseen = condition(release, named(release, "unseen"))
            release.kubernetes("delete", f"agentpool/{named(release, 'unseen')}", WITHIN)
            release.kubernetes("delete", f"agentpool/{name}", WITHIN)
            release.kubernetes("wait", "--for=delete", f"deployment/{name}", WITHIN)
        finally:
            with_operator(release)

    assert going_on == before
    assert (unseen["status"], unseen["reason"]) == ("Unknown", "Unseen")


def test_what_changes_while_the_operator_is_away_is_done_when_it_is_back(release: Release) -> None:
    with a_pool(release, "later", replicas=0) as name:
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)
        without_operator(release)
        try:
            release.kubernetes("scale", f"agentpool/{name}", "--replicas=1")
        finally:
            with_operator(release)

        commands_here.eventually("the pool has pods", lambda: pods(release, name), bool)
        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)


CAUSES = {
    "image": ({"image": "localhost/no-such-agent:1"}, "ImageNotPulled", "no-such-agent:1"),
    "node": ({"nodeSelector": {"no-such": "node"}}, "Unschedulable", "no node takes pod"),
    "template": (
        {"templateRevision": "none"},
        "TemplateMissing",
        "the pool waits for revision none",
    ),
}


@pytest.mark.parametrize(("spec", "reason", "words"), CAUSES.values(), ids=CAUSES)
def test_a_pool_says_in_one_line_what_it_waits_for_and_heals(
    release: Release, spec: dict[str, Any], reason: str, words: str
) -> None:
    with a_pool(release, "stuck", **spec) as name:
        message = becomes(release, name, reason)
        (field,) = spec
        healed = json.dumps([{"op": "remove", "path": f"/spec/{field}"}])
        release.kubernetes("patch", "agentpool", name, "--type=json", "-p", healed)

        release.kubernetes("wait", READY, f"agentpool/{name}", WITHIN)

    commands_here.say(message)
    assert words in message
    assert "\n" not in message


def test_a_pool_says_that_a_quota_is_full_and_heals(release: Release) -> None:
    kubectl = release.kubernetes
    have = len(kubectl.get("pods")["items"])
    kubectl("create", "quota", "full", f"--hard=pods={have}")
    with a_pool(release, "over") as name:
        message = becomes(release, name, "PodsRefused")
        kubectl("delete", "quota", "full")
        # The pool is ready only after a while: the controller of Deployments waits longer and
        # longer before it tries to make a pod again.
        kubectl("wait", READY, f"agentpool/{name}", "--timeout=120s")

    commands_here.say(message)
    assert "exceeded quota: full" in message


def test_a_deployment_that_has_the_name_is_left_alone(release: Release) -> None:
    kubectl, name = release.kubernetes, named(release, "taken")
    kubectl("create", "deployment", name, "--image=localhost/none", "--replicas=0")
    with a_pool(release, "taken") as pool:
        message = becomes(release, pool, "NameTaken")
        kubectl("delete", "deployment", name, WITHIN)
        kubectl("wait", READY, f"agentpool/{pool}", WITHIN)

    assert f"Deployment {name} exists and has no owner" in message


REFUSED = {
    "a key that nobody knows": ({"replica": 3}, "unknown field"),
    "replicas below none": ({"replicas": -1}, "spec.replicas"),
    "an engine that is none": ({"engine": "cuda"}, 'Unsupported value: "cuda"'),
    "no quantity": ({"resources": {"limits": {"cpu": "two"}}}, "spec.resources.limits.cpu"),
    "a request above its limit": (
        {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}}},
        "a request is above its limit",
    ),
    "threads above the limit": (
        {"threads": 4, "resources": {"limits": {"cpu": "1500m"}}},
        "threads is above resources.limits.cpu",
    ),
    "a toleration of all with a value": (
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "operator Exists takes no value",
    ),
    "a toleration without a key": ({"tolerations": [{"value": "b"}]}, "without key the operator"),
    "seconds without NoExecute": (
        {"tolerations": [{"key": "a", "tolerationSeconds": 3}]},
        "tolerationSeconds is allowed only with effect",
    ),
    "a name of another fleet": ({"fleet": "other"}, "the name must be <fleet>-agent"),
}


@pytest.mark.parametrize(("spec", "words"), REFUSED.values(), ids=REFUSED)
def test_a_pool_that_cannot_be_meant_is_refused_with_the_way_out(
    release: Release, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(commands_here.KitError) as refused:
        apply(release, manifest(release, "wrong", **spec), "--dry-run=server")

    assert words in str(refused.value)


def test_whole_numbers_and_words_are_quantities(release: Release) -> None:
    limits = {"cpu": 2, "memory": "1Gi"}
    pool = manifest(release, "right", threads=2, resources={"limits": limits})

    assert "created" in apply(release, pool, "--dry-run=server")


def test_the_fleet_of_a_pool_cannot_change(release: Release) -> None:
    change = ("--type=merge", "-p", '{"spec": {"fleet": "mid-x"}}')
    with (
        a_pool(release, "fixed", replicas=0) as name,
        pytest.raises(commands_here.KitError) as refused,
    ):
        release.kubernetes("patch", "agentpool", name, *change)

    assert "fleet cannot be changed" in str(refused.value)
