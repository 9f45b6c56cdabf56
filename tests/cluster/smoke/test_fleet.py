"""Every pod of a fleet gets its certificate, and running pods work without the operator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import commands_here, releases
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import PYTHON, Release

pytestmark = [pytest.mark.cluster]

READYZ = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://127.0.0.1:9090/readyz", timeout=5)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
"""
MEMORY = """
import os, pathlib
held = 0
for place in pathlib.Path("/proc").glob("[0-9]*"):
    if int(place.name) != os.getpid():
        rows = (place / "smaps_rollup").read_text().splitlines()
        held += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
print(held)
"""
"""Python code that prints the memory of the other processes of its pod, in kB."""
REFUSED, REASON = "the request is for the kind coordinator", "WrongKind"
WAITING = "is the operator of"


@pytest.fixture(scope="module")
def ready_s(installed: Release) -> dict[str, float]:
    """After a new installation, return how many seconds each pod took to become ready.

    The seconds count from the creation of the pod.
    """
    return installed.wait_ready()


def test_every_pod_is_ready_within_a_minute(ready_s: dict[str, float]) -> None:
    commands_here.say(f"ready after, in s: {json.dumps(ready_s, indent=1)}")
    assert len(ready_s) == 9
    assert max(ready_s.values()) <= releases.READY_S_MAX


def test_no_pod_had_to_be_started_again(release: Release, ready_s: dict[str, float]) -> None:
    restarts = {pod["metadata"]["name"]: _restarts(pod) for pod in release.pods()}

    assert restarts == dict.fromkeys(ready_s, 0)


def test_both_replicas_of_the_operator_are_ready_and_one_leads(release: Release) -> None:
    lease = release.kubernetes.get(f"lease/{release.name}-operator")
    holder = lease["spec"]["holderIdentity"]

    operators = release.pods("operator")
    assert all(releases.is_ready(pod) for pod in operators)
    holders = [f"{pod['metadata']['name']}_{pod['metadata']['uid']}" for pod in operators]
    assert holders.count(holder) == 1


def test_each_pod_has_a_certificate_in_the_ledger_and_no_key_in_a_secret(
    release: Release,
) -> None:
    entries = release.kubernetes.get("configmaps", "-l", f"midstreamer.dev/ledger={release.name}")
    named = {entry["data"]["id"] for entry in entries["items"]}
    wanted = {_uri(pod) for pod in release.pods() if _component(pod) != "operator"}

    assert wanted <= named
    secrets = {each["metadata"]["name"] for each in release.kubernetes.get("secrets")["items"]}
    own = {name for name in secrets if not name.startswith("sh.helm.release.")}
    assert own == {f"{release.name}-authority", f"{release.name}-postgres"}


@pytest.mark.parametrize("component", ["coordinator", "agent", "sync"])
def test_a_pod_that_is_replaced_is_ready_within_five_seconds(
    release: Release, component: str
) -> None:
    old = release.pods(component)[0]["metadata"]["name"]
    others = {pod["metadata"]["name"] for pod in release.pods()} - {old}

    release.kubernetes("delete", "pod", old, "--wait=true", "--timeout=60s")

    took_s = [s for name, s in release.wait_ready().items() if name not in others]
    commands_here.say(f"{component}: {took_s} s")
    assert max(took_s) <= 5.0


def test_without_an_operator_a_new_pod_says_what_it_waits_for_and_heals(
    release: Release,
) -> None:
    kubectl, name = release.kubernetes, f"{release.name}-coordinator-0"
    kubectl("scale", "deployment", f"{release.name}-operator", "--replicas=0")
    kubectl("wait", "--for=delete", "pod", "-l", _selector(release, "operator"), "--timeout=60s")
    kubectl("delete", "pod", name, "--timeout=60s")

    reason = commands_here.eventually(
        "the pod's /readyz says that it waits for the operator",
        lambda: _readyz(kubectl, name),
        lambda text: WAITING in text,
    )
    events = commands_here.eventually("the pod has an Event", lambda: _events(kubectl, name), bool)

    assert f"{release.namespace}/{release.name}" in reason
    assert WAITING in events[0]["message"]
    ready = {pod["metadata"]["name"]: releases.is_ready(pod) for pod in release.pods()}
    assert ready.pop(name) is False
    assert len(ready) == 6
    assert all(ready.values())
    kubectl("scale", "deployment", f"{release.name}-operator", "--replicas=2")
    release.wait_ready()


def test_a_pod_of_the_wrong_account_is_refused_and_says_why_everywhere(release: Release) -> None:
    kubectl, name = release.kubernetes, "impostor"
    kubectl("apply", "-f", "-", stdin=json.dumps(_impostor(release, name)))

    reason = commands_here.eventually(
        "the pod's /readyz says that its request was refused",
        lambda: _readyz(kubectl, name),
        lambda text: REFUSED in text,
    )
    events = commands_here.eventually("the pod has an Event", lambda: _events(kubectl, name), bool)
    kubectl("exec", name, "--", PYTHON, "-c", "import os; os.kill(1, 15)")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=30s")

    (container,) = kubectl.get(f"pod/{name}")["status"]["containerStatuses"]
    by_operator = kubectl.get("events", "--field-selector", f"reason={REASON}")["items"]
    assert "waiting for a certificate" in reason
    assert REFUSED in events[0]["message"]
    assert REFUSED in container["state"]["terminated"]["message"]
    assert {each["involvedObject"]["name"] for each in by_operator} == {name}
    kubectl("delete", "pod", name, "--timeout=30s")


def test_all_pods_together_ask_for_one_processor_and_two_gigabytes_at_most(
    release: Release,
) -> None:
    asked = [pod["spec"]["containers"][0]["resources"]["requests"] for pod in release.pods()]

    assert sum(int(each["cpu"].removesuffix("m")) for each in asked) <= 1000
    assert sum(_asked_mb(pod) for pod in release.pods()) <= 2048


def test_no_agent_compiles_a_kernel(release: Release) -> None:
    logs = release.kubernetes("logs", "-l", _selector(release, "agent"), "--tail=-1")

    assert [line for line in logs.splitlines() if "compiles" in line] == []
    assert "health.opened" in logs


def test_each_kind_of_pod_takes_no_more_memory_than_the_chart_asks_for(release: Release) -> None:
    taken = {pod["metadata"]["name"]: (_component(pod), _memory_mb(release, pod))
             for pod in release.pods()}  # fmt: skip

    commands_here.say(f"memory in MB: {json.dumps(taken, indent=1)}")
    asked = {_component(pod): _asked_mb(pod) for pod in release.pods()}
    assert {name: mb for name, (kind, mb) in taken.items() if mb > asked[kind]} == {}


def _selector(release: Release, component: str) -> str:
    return f"{releases.INSTANCE}={release.name},{releases.COMPONENT}={component}"


def _impostor(release: Release, name: str) -> dict[str, Any]:
    """Return a pod like a coordinator, but with the service account of sync."""
    (model, *_) = release.pods("coordinator")
    spec = json.loads(json.dumps(model["spec"]))
    for key in ("nodeName", "hostname", "subdomain"):
        spec.pop(key, None)
    mounted = {each["name"] for each in spec["volumes"] if "projected" in each}
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] not in mounted]
    (container,) = spec["containers"]
    mounts = container["volumeMounts"]
    container["volumeMounts"] = [each for each in mounts if each["name"] not in mounted]
    spec["serviceAccount"] = spec["serviceAccountName"] = f"{release.name}-sync"
    spec["restartPolicy"] = "Never"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"][releases.COMPONENT])


def _uri(pod: dict[str, Any]) -> str:
    meta = pod["metadata"]
    where = f"{meta['namespace']}/{meta['name']}/{meta['uid']}"
    return f"spiffe://{releases.TRUST_DOMAIN}/{_component(pod)}/{where}"


def _memory_mb(release: Release, pod: dict[str, Any]) -> float:
    """Return the memory of a pod's processes in MB; pages that they share count once."""
    output = release.kubernetes("exec", pod["metadata"]["name"], "--", PYTHON, "-c", MEMORY)
    return round(int(output) / 1024, 1)


def _asked_mb(pod: dict[str, Any]) -> float:
    asked = pod["spec"]["containers"][0]["resources"]["requests"]["memory"]
    assert asked.endswith("Mi")
    return float(asked.removesuffix("Mi"))


def _restarts(pod: dict[str, Any]) -> int:
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def _readyz(kubectl: Kubernetes, pod: str) -> str:
    try:
        return kubectl("exec", pod, "--", PYTHON, "-c", READYZ)
    except commands_here.KitError:
        return ""  # the container does not run yet


def _events(kubectl: Kubernetes, pod: str) -> list[dict[str, Any]]:
    fields = f"involvedObject.name={pod},reason=WaitingForCertificate"
    found: list[dict[str, Any]] = kubectl.get("events", "--field-selector", fields)["items"]
    return found
