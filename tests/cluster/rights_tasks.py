"""Tasks that need the rights of the charts: tasks of the operator, of pods and of people.

A task is a `Deed`. `Deed.begin` starts the task and returns a function that looks at its result.
The test calls this function until it returns "", which means success. Until the task has succeeded,
the function returns the error that the product reports.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Client
from midstreamer.domain.identity import Kind
from midstreamer_operator.resources import agentpools, certificate_ledger, passwords
from tests.cluster import cluster_guard, commands_here, releases, requester_accounts
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.cluster.renders import objects, render
from tests.cluster.requester_accounts import Bound
from tests.support.operator_builders import csr_pem

READYZ = (
    "import urllib.request, urllib.error\n"
    "try:\n"
    "    urllib.request.urlopen('http://127.0.0.1:9090/readyz', timeout=5)\n"
    "except urllib.error.HTTPError as error:\n"
    "    print(error.read().decode())\n"
)
STUCK = "stuck"
"""The name of a pool of agents whose pods fit on no node.

The condition of the pool says "Unschedulable" only if the operator has the rights to read why the
pods do not start.
"""
DENIED = "AnotherPod"
INSTALLED = ("AgentPool", "Deployment", "PodTemplate", "Role")
Look: TypeAlias = Callable[[], str]


@dataclass
class Place:
    """One release, its namespace, and the pods and the person that ask for certificates."""

    release: Release
    members: requester_accounts.Installation
    """The accounts of pods that ask for certificates; these pods are never scheduled."""
    agent: Bound
    """A pod of the fleet's agents, which asks for a certificate."""
    shop: Bound
    """A pod that asks for a client certificate, in a namespace with the label for clients."""
    jane: Bound
    """The account of a person who may use the client identity "desk"."""
    count: int = 0
    """How many names the method `another` has returned."""
    undo: list[Callable[[], object]] = field(default_factory=list)
    """Functions to call after a task, to restore what the task changed."""

    @property
    def kubernetes(self) -> Kubernetes:
        """kubectl with the rights of an administrator, in the namespace of the release."""
        return self.release.kubernetes

    def pod(self, component: str) -> str:
        """Return the name of the component's newest scheduled pod; empty if there is none."""
        found = [pod for pod in self.release.pods(component) if pod["spec"].get("nodeName")]
        found.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return str(found[-1]["metadata"]["name"]) if found else ""

    def another(self, word: str) -> str:
        """Return a name that is new in the namespace and begins with `word`."""
        self.count += 1
        return f"{word}-{self.count}"


@dataclass(frozen=True)
class Deed:
    """A task that succeeds with all rights of the charts and fails without a certain right."""

    begin: Callable[[Place], Look]
    steady_s: float = 0.0
    """Seconds for which the task must look successful.

    The operator retries for a while before it reports a failure, so an early look may be wrong.
    """


# --- the operator ---------------------------------------------------------------------------------


def readyz(place: Place, component: str = "operator") -> str:
    """Return why a component's newest pod is not ready, from its `/readyz`; empty when it is."""
    try:
        return place.kubernetes("exec", place.pod(component), "--", releases.PYTHON, "-c", READYZ)
    except commands_here.KitError as error:
        return f"the {component} does not answer: {error}"


def serves(place: Place) -> Look:
    """Check that the operator is ready and reports that the pool `STUCK` is unschedulable."""
    pool = f"{place.release.name}-agent-{STUCK}"

    def look() -> str:
        complaint = readyz(place)
        condition = _ready(place, pool)
        stuck = condition.get("reason") == "Unschedulable"
        return complaint or ("" if stuck else f"pool {pool}: {condition}")

    return look


def takes_over(place: Place) -> Look:
    """Let the operator's lease expire; check that a replica takes it, leads and is ready."""
    name, pod = f"lease/{place.release.name}-operator", place.pod("operator")
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 1}
    place.kubernetes("patch", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def look() -> str:
        holder = place.kubernetes.get(name)["spec"].get("holderIdentity", "")
        return readyz(place) or ("" if holder.startswith(pod) else f"{holder} holds {name}")

    return look


def makes_its_lease(place: Place) -> Look:
    """Delete the operator's lease; check that the operator makes the lease again."""
    name = f"{place.release.name}-operator"
    place.kubernetes("delete", "lease", name, "--ignore-not-found")

    def look() -> str:
        found = place.kubernetes("get", "lease", name, "--ignore-not-found", "-o", "name")
        return readyz(place) or ("" if found else f"there is no lease {name}")

    return look


def makes_the_password(place: Place) -> Look:
    """Delete the Secret of the database password; check that the operator makes a new password.

    Afterwards the old password is restored.
    """
    name = passwords.secret_name(place.release.name)
    before = place.kubernetes.get(f"secret/{name}")["data"]
    place.kubernetes("delete", "secret", name)

    def restore() -> None:
        secret = passwords.secret(place.release.name, "")
        place.kubernetes("apply", "-f", "-", stdin=json.dumps({**secret, "data": before}))

    place.undo.append(restore)

    def look() -> str:
        found = place.kubernetes("get", "secret", name, "--ignore-not-found", "-o", "name")
        return "" if found else readyz(place) or f"there is no Secret {name}"

    return look


def publishes_its_authority(place: Place) -> Look:
    """Empty the trust bundle; check that the operator writes its authority's certificate back."""
    bundle = f"configmap/{kubernetes_names.bundle(place.release.name)}"
    empty = json.dumps({"data": {kubernetes_names.BUNDLE_KEY: ""}})
    place.kubernetes("patch", bundle, "--type=merge", "-p", empty)
    over = takes_over(place)

    def look() -> str:
        text = place.kubernetes.get(bundle)["data"][kubernetes_names.BUNDLE_KEY]
        return over() or ("" if "CERTIFICATE" in text else f"{bundle} is empty")

    return look


def forgets_what_has_ended(place: Place) -> Look:
    """Make a ledger entry whose certificate expired long ago; check that it is deleted."""
    entry = certificate_ledger.Entry("1", "00", "spiffe://x/agent/x", "00", "1.0", "x", "x")
    manifest = certificate_ledger.written(place.release.name, place.another("old"), entry)
    place.kubernetes("apply", "-f", "-", stdin=json.dumps(manifest))
    name = manifest["metadata"]["name"]
    place.undo.append(lambda: place.kubernetes("delete", "configmap", name, "--ignore-not-found"))
    over = takes_over(place)

    def look() -> str:
        found = place.kubernetes("get", "configmap", name, "--ignore-not-found", "-o", "name")
        return over() or ("" if not found else f"{name} is still there")

    return look


def certifies_an_agent(place: Place) -> Look:
    """Ask for a certificate as an agent's pod; check that the pod gets the certificate."""
    return _certified(place, place.agent, Kind.AGENT, _of(place.agent))


def certifies_a_client(place: Place) -> Look:
    """Ask as a pod of a namespace labelled for clients; check that it gets a client certificate."""
    return _certified(place, place.shop, Kind.CLIENT, _of(place.shop))


def certifies_a_person(place: Place) -> Look:
    """Ask as a person who may use a client identity; check that a certificate for it is issued."""
    return _certified(place, place.jane, Kind.CLIENT, "desk")


def denies_a_forger(place: Place) -> Look:
    """Request a certificate in another pod's name; check that it is denied, with an Event."""
    name, uid = _posted(place, place.agent, Kind.AGENT, _of(place.agent).replace("/agent-", "/x-"))
    event = f"{place.agent.name}.{uid}"

    def look() -> str:
        status = place.kubernetes.get(f"csr/{name}")["status"]
        denied = [each["reason"] for each in status.get("conditions", ())]
        if denied != [DENIED]:
            return f"not denied, {denied}; {readyz(place)}"
        found = place.kubernetes("get", "event", event, "--ignore-not-found", "-o", "name")
        return "" if found else "denied, and no Event reports it"

    return look


def makes_a_pool(place: Place) -> Look:
    """Make a pool of agents; check that it gets a Deployment and its condition says it is ready."""
    return look_of_pool(place, a_pool(place, place.another("new"), replicas=0))


def a_pool(place: Place, word: str, **spec: Any) -> str:
    """Make an AgentPool, whose name ends with `word`; return the name.

    The pool is deleted after the task, unless `word` is `STUCK`.
    """
    name = f"{place.release.name}-agent-{word}"
    manifest = {
        "apiVersion": agentpools.API_VERSION,
        "kind": agentpools.KIND,
        "metadata": {"name": name},
        "spec": {"fleet": place.release.name, **spec},
    }
    place.kubernetes("apply", "-f", "-", stdin=json.dumps(manifest))
    if word != STUCK:
        place.undo.append(lambda: place.kubernetes("delete", "agentpool", name))
    return name


def look_of_pool(place: Place, name: str) -> Look:
    """Return a function that looks whether a pool's condition says that it is ready."""

    def look() -> str:
        condition = _ready(place, name)
        if condition.get("status") == "True":
            return ""
        return f"{condition.get('message', 'the pool has no condition')}; {readyz(place)}"

    return look


# --- pods -----------------------------------------------------------------------------------------


def starts_an_agent(place: Place) -> Look:
    """Delete an agent's pod; check that a new pod replaces it and becomes ready."""
    before = place.pod("agent")
    place.kubernetes("delete", "pod", before, "--grace-period=1", "--wait=false")

    def look() -> str:
        ready = {each["metadata"]["name"]: each for each in place.release.pods("agent")}
        after = place.pod("agent")
        if after not in {"", before} and releases.is_ready(ready.get(after, {})):
            return ""
        return f"{readyz(place, 'agent')}; Events: {_waits(place, after)}"

    return look


def tells_that_it_waits(place: Place) -> Look:
    """Take from agents the right to request certificates, and replace an agent's pod.

    Check that an Event says what the new pod waits for.
    """
    wide = f"midstreamer:{place.release.namespace}:{place.release.name}:member"
    role = place.kubernetes.get(f"clusterrole/{wide}")
    _apply_rules(place, role, [{**rule, "verbs": ["watch"]} for rule in role["rules"]])
    before = place.pod("agent")

    def restore() -> None:
        _apply_rules(place, role, role["rules"])
        place.kubernetes("delete", "pod", place.pod("agent"), "--grace-period=1")

    place.undo.append(restore)
    place.kubernetes("delete", "pod", before, "--grace-period=1", "--wait=false")

    def look() -> str:
        after = place.pod("agent")
        if after != before and _waits(place, after):
            return ""
        complaint = readyz(place, "agent")
        return f"no Event reports it: {complaint}" if "is forbidden" in complaint else complaint

    return look


def helm_tests(place: Place) -> Look:
    """Run `helm test` of the release; check that it succeeds."""
    words = ["test", place.release.name, "--namespace", place.release.namespace]
    tried = _tried(lambda: commands_here.run([cluster_guard.helm(), *words, "--timeout", "60s"]))

    def look() -> str:
        if not (complaint := tried()):
            return ""
        try:
            return place.kubernetes("logs", f"{place.release.name}-test")
        except commands_here.KitError:
            return complaint

    return look


# --- people ---------------------------------------------------------------------------------------


def installs(place: Place) -> Look:
    """As a user with the role `admin` in the namespace, install another release there.

    The installation is tried with `--dry-run=server`.
    """
    text = render({}, release="other", namespace=place.release.namespace)
    # RoleBindings are left out: they are refused without their Role, which a dry run does not keep.
    items = [each for each in objects(text) if each["kind"] in INSTALLED]
    other = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    words = ("create", "--dry-run=server", "--as=admin", "-f", "-")
    return _tried(lambda: place.kubernetes(*words, stdin=other))


def kubectl(who: str, *words: str) -> Deed:
    """Return the task of running kubectl as the user `who`.

    In `words`, POOL stands for the default AgentPool, TEMPLATE for the agents' PodTemplate, and
    HERE for the namespace of the release.
    """

    def begin(place: Place) -> Look:
        name = f"{place.release.name}-agent"
        known = {"POOL": f"agentpool/{name}", "TEMPLATE": f"podtemplate/{name}"}
        known["HERE"] = place.release.namespace
        arguments = [_replaced(word, known) for word in words]
        return _tried(lambda: place.kubernetes(*arguments, f"--as={who}"))

    return Deed(begin)


def replaces(who: str, kind: str) -> Deed:
    """Return a task: as the user `who`, replace an object of the chart with itself.

    `kind` is the kind of the object, such as "podtemplate". The replacement needs the same right as
    `helm upgrade --force-replace`.
    """

    def begin(place: Place) -> Look:
        text = json.dumps(place.kubernetes.get(kind, f"{place.release.name}-agent"))
        words = ("replace", "--dry-run=server", f"--as={who}", "-f", "-")
        return _tried(lambda: place.kubernetes(*words, stdin=text))

    return Deed(begin)


def creates(who: str, kind: str) -> Deed:
    """Return a task: as the user `who`, create a copy of an object of the chart.

    `kind` is the kind of the object, such as "podtemplate".
    """

    def begin(place: Place) -> Look:
        found = place.kubernetes.get(kind, f"{place.release.name}-agent")
        found["metadata"] = {"name": f"{place.release.name}-agent-x"}
        words = ("create", "--dry-run=server", f"--as={who}", "-f", "-")
        return _tried(lambda: place.kubernetes(*words, stdin=json.dumps(found)))

    return Deed(begin)


# --- helpers --------------------------------------------------------------------------------------


def _tried(work: Callable[[], object]) -> Look:
    def look() -> str:
        try:
            work()
        except commands_here.KitError as error:
            return str(error)
        return ""

    return look


def _replaced(word: str, known: Mapping[str, str]) -> str:
    for key, value in known.items():
        word = word.replace(key, value)
    return word


def _of(pod: Bound) -> str:
    return f"{pod.account.namespace}/{pod.name}/{pod.uid}"


def _certified(place: Place, who: Bound, kind: Kind, label: str) -> Look:
    name, _ = _posted(place, who, kind, label)

    def look() -> str:
        status = place.kubernetes.get(f"csr/{name}")["status"]
        conditions = [each["reason"] for each in status.get("conditions", ())]
        return "" if status.get("certificate") else f"no certificate, {conditions}; {readyz(place)}"

    return look


def _posted(place: Place, who: Bound, kind: Kind, label: str) -> tuple[str, str]:
    """Make a signing request with the account `who`; return the request's name and uid."""
    uri = f"spiffe://{releases.TRUST_DOMAIN}/{kind}/{label}"
    namespace, release = place.release.namespace, place.release.name
    spec = {
        "request": base64.b64encode(csr_pem(uri)).decode(),
        "signerName": kubernetes_names.signer_of(kind, namespace, release),
        "usages": list(kubernetes_names.usages(kind)),
    }

    async def post() -> dict[str, Any]:
        async with Client(who.account) as client:
            body = {"metadata": {"generateName": "of-a-test-"}, "spec": spec}
            return dict(
                (await client.ask("POST", kubernetes_names.REQUESTS, body)).checked()["metadata"]
            )

    meta = asyncio.run(post())
    return meta["name"], meta["uid"]


def _ready(place: Place, pool: str) -> dict[str, str]:
    conditions = place.kubernetes.get(f"agentpool/{pool}").get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Ready"), {})


def _waits(place: Place, pod: str) -> list[str]:
    fields = f"involvedObject.name={pod},reason=WaitingForCertificate"
    found = place.kubernetes.get("events", "--field-selector", fields)["items"]
    return [each["message"] for each in found]


def _apply_rules(place: Place, role: Mapping[str, Any], rules: list[dict[str, Any]]) -> None:
    patch = json.dumps({"rules": rules})
    name = f"{role['kind'].lower()}/{role['metadata']['name']}"
    place.kubernetes("patch", name, "--type=merge", "-p", patch)
