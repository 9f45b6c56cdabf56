"""What the rights of the charts are for: deeds of the operator, of pods and of people.

A deed is begun at a `Place`, and then looked at again and again: what is seen is empty once all is
well, and else what the product says, in its own words.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from midstreamer.cluster import naming
from midstreamer.cluster.api import Client
from midstreamer.domain.identity import Kind
from midstreamer_operator.resources import agentpools, ledger, passwords
from tests.cluster import host, mark, releases, signing
from tests.cluster.pods import Kubernetes
from tests.cluster.releases import Release
from tests.cluster.renders import objects, render
from tests.cluster.signing import Bound
from tests.support.operating import csr_pem

READYZ = (
    "import urllib.request, urllib.error\n"
    "try:\n"
    "    urllib.request.urlopen('http://127.0.0.1:9090/readyz', timeout=5)\n"
    "except urllib.error.HTTPError as error:\n"
    "    print(error.read().decode())\n"
)
STUCK = "stuck"
"""A pool that no node takes: it says so, as long as the operator may look."""
DENIED = "AnotherPod"
INSTALLED = ("AgentPool", "Deployment", "PodTemplate", "Role")
Look: TypeAlias = Callable[[], str]


@dataclass
class Place:
    """One release, its namespace, and who is there."""

    release: Release
    members: signing.Installation
    """Pods that wait for a node for ever; their tokens ask for certificates."""
    agent: Bound
    shop: Bound
    """A pod of another, labelled namespace."""
    jane: Bound
    """Somebody who may be `client/desk`."""
    count: int = 0
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def kubernetes(self) -> Kubernetes:
        """kubectl of an administrator, in the namespace of the release."""
        return self.release.kubernetes

    def pod(self, component: str) -> str:
        """The name of the youngest pod of a component on a node; empty while there is none."""
        found = [pod for pod in self.release.pods(component) if pod["spec"].get("nodeName")]
        found.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return str(found[-1]["metadata"]["name"]) if found else ""

    def another(self, word: str) -> str:
        """A name that was not given before."""
        self.count += 1
        return f"{word}-{self.count}"


@dataclass(frozen=True)
class Deed:
    """Something that can be done with rights, and fails without."""

    begin: Callable[[Place], Look]
    steady_s: float = 0.0
    """All must be well for so long: what fails is tried for a while before it is told."""


# --- the operator ---------------------------------------------------------------------------------


def readyz(place: Place, component: str = "operator") -> str:
    """Why a pod is not ready, as it says; empty when it is."""
    try:
        return place.kubernetes("exec", place.pod(component), "--", releases.PYTHON, "-c", READYZ)
    except host.KitError as error:
        return f"the {component} does not answer: {error}"


def serves(place: Place) -> Look:
    """The operator holds its lease, looks after pools, and has nothing to complain of."""
    pool = f"{place.release.name}-agent-{STUCK}"

    def look() -> str:
        told = readyz(place)
        condition = _ready(place, pool)
        stuck = condition.get("reason") == "Unschedulable"
        return told or ("" if stuck else f"pool {pool}: {condition}")

    return look


def takes_over(place: Place) -> Look:
    """A replica takes the lease that another one has let go, and begins all of its work."""
    name, pod = f"lease/{place.release.name}-operator", place.pod("operator")
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 1}
    place.kubernetes("patch", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def look() -> str:
        holder = place.kubernetes.get(name)["spec"].get("holderIdentity", "")
        return readyz(place) or ("" if holder.startswith(pod) else f"{holder} holds {name}")

    return look


def makes_its_lease(place: Place) -> Look:
    """There is a lease again after somebody has deleted it."""
    name = f"{place.release.name}-operator"
    place.kubernetes("delete", "lease", name, "--ignore-not-found")

    def look() -> str:
        found = place.kubernetes("get", "lease", name, "--ignore-not-found", "-o", "name")
        return readyz(place) or ("" if found else f"there is no lease {name}")

    return look


def makes_the_password(place: Place) -> Look:
    """There is a password again after somebody has deleted it; then it is the old one again."""
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
    """The bundle of the trusted names the authority again after somebody has emptied it."""
    bundle = f"configmap/{naming.bundle(place.release.name)}"
    empty = json.dumps({"data": {naming.BUNDLE_KEY: ""}})
    place.kubernetes("patch", bundle, "--type=merge", "-p", empty)
    over = takes_over(place)

    def look() -> str:
        text = place.kubernetes.get(bundle)["data"][naming.BUNDLE_KEY]
        return over() or ("" if "CERTIFICATE" in text else f"{bundle} is empty")

    return look


def forgets_what_has_ended(place: Place) -> Look:
    """An entry of the ledger is gone when its certificate has ended long ago."""
    entry = ledger.Entry("1", "00", "spiffe://x/agent/x", "00", "1.0", "x", "x")
    made = ledger.written(place.release.name, place.another("old"), entry)
    place.kubernetes("apply", "-f", "-", stdin=json.dumps(made))
    name = made["metadata"]["name"]
    place.undo.append(lambda: place.kubernetes("delete", "configmap", name, "--ignore-not-found"))
    over = takes_over(place)

    def look() -> str:
        found = place.kubernetes("get", "configmap", name, "--ignore-not-found", "-o", "name")
        return over() or ("" if not found else f"{name} is still there")

    return look


def certifies_an_agent(place: Place) -> Look:
    """A pod of the fleet gets a certificate."""
    return _certified(place, place.agent, Kind.AGENT, _of(place.agent))


def certifies_a_client(place: Place) -> Look:
    """A pod of a labelled namespace gets one as a client."""
    return _certified(place, place.shop, Kind.CLIENT, _of(place.shop))


def certifies_a_person(place: Place) -> Look:
    """Whoever may use a client identity gets a certificate of it."""
    return _certified(place, place.jane, Kind.CLIENT, "desk")


def denies_a_forger(place: Place) -> Look:
    """A pod that asks for another one's name is denied, and an Event says so."""
    name, uid = _posted(place, place.agent, Kind.AGENT, _of(place.agent).replace("/agent-", "/x-"))
    event = f"{place.agent.name}.{uid}"

    def look() -> str:
        status = place.kubernetes.get(f"csr/{name}")["status"]
        denied = [each["reason"] for each in status.get("conditions", ())]
        if denied != [DENIED]:
            return f"not denied, {denied}; {readyz(place)}"
        found = place.kubernetes("get", "event", event, "--ignore-not-found", "-o", "name")
        return "" if found else "denied, and no Event tells of it"

    return look


def makes_a_pool(place: Place) -> Look:
    """A new pool of agents gets a Deployment, and tells that it is ready."""
    return look_of_pool(place, a_pool(place, place.another("new"), replicas=0))


def a_pool(place: Place, word: str, **spec: Any) -> str:
    """Make a pool, which goes with the deed; its name."""
    name = f"{place.release.name}-agent-{word}"
    made = {
        "apiVersion": agentpools.API_VERSION,
        "kind": agentpools.KIND,
        "metadata": {"name": name},
        "spec": {"fleet": place.release.name, **spec},
    }
    place.kubernetes("apply", "-f", "-", stdin=json.dumps(made))
    if word != STUCK:
        place.undo.append(lambda: place.kubernetes("delete", "agentpool", name))
    return name


def look_of_pool(place: Place, name: str) -> Look:
    """Whether a pool is ready, by what it tells."""

    def look() -> str:
        condition = _ready(place, name)
        if condition.get("status") == "True":
            return ""
        return f"{condition.get('message', 'it says nothing')}; {readyz(place)}"

    return look


# --- pods -----------------------------------------------------------------------------------------


def starts_an_agent(place: Place) -> Look:
    """An agent that was deleted comes back, and is ready."""
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
    """An agent that may not ask for a certificate says so in an Event."""
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
        told = readyz(place, "agent")
        return f"no Event tells of it: {told}" if "is forbidden" in told else told

    return look


def helm_tests(place: Place) -> Look:
    """`helm test` is green."""
    words = ["test", place.release.name, "--namespace", place.release.namespace]
    tried = _tried(lambda: host.run([mark.helm(), *words, "--timeout", "60s"]))

    def look() -> str:
        if not (told := tried()):
            return ""
        try:
            return place.kubernetes("logs", f"{place.release.name}-test")
        except host.KitError:
            return told

    return look


# --- people ---------------------------------------------------------------------------------------


def installs(place: Place) -> Look:
    """Whoever has `admin` of the namespace could install another release there."""
    text = render({}, release="other", namespace=place.release.namespace)
    # What is tried is not kept, and a binding is refused while its role is not there.
    items = [each for each in objects(text) if each["kind"] in INSTALLED]
    other = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    words = ("create", "--dry-run=server", "--as=admin", "-f", "-")
    return _tried(lambda: place.kubernetes(*words, stdin=other))


def kubectl(who: str, *words: str) -> Deed:
    """A command of somebody who has a role of the cluster in the namespace of the release.

    POOL stands for the default pool, TEMPLATE for the template of agents, HERE for the namespace.
    """

    def begin(place: Place) -> Look:
        name = f"{place.release.name}-agent"
        known = {"POOL": f"agentpool/{name}", "TEMPLATE": f"podtemplate/{name}"}
        known["HERE"] = place.release.namespace
        told = [_replaced(word, known) for word in words]
        return _tried(lambda: place.kubernetes(*told, f"--as={who}"))

    return Deed(begin)


def replaces(who: str, kind: str) -> Deed:
    """Somebody replaces a whole object, as `helm upgrade --force-replace` does."""

    def begin(place: Place) -> Look:
        text = json.dumps(place.kubernetes.get(kind, f"{place.release.name}-agent"))
        words = ("replace", "--dry-run=server", f"--as={who}", "-f", "-")
        return _tried(lambda: place.kubernetes(*words, stdin=text))

    return Deed(begin)


def creates(who: str, kind: str) -> Deed:
    """Somebody makes an object like the chart's, of another name."""

    def begin(place: Place) -> Look:
        found = place.kubernetes.get(kind, f"{place.release.name}-agent")
        found["metadata"] = {"name": f"{place.release.name}-agent-x"}
        words = ("create", "--dry-run=server", f"--as={who}", "-f", "-")
        return _tried(lambda: place.kubernetes(*words, stdin=json.dumps(found)))

    return Deed(begin)


# --- what they are made of ------------------------------------------------------------------------


def _tried(work: Callable[[], object]) -> Look:
    def look() -> str:
        try:
            work()
        except host.KitError as error:
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
    """Name and uid of a signing request that somebody has made."""
    uri = f"spiffe://{releases.TRUST_DOMAIN}/{kind}/{label}"
    namespace, release = place.release.namespace, place.release.name
    spec = {
        "request": base64.b64encode(csr_pem(uri)).decode(),
        "signerName": naming.signer_of(kind, namespace, release),
        "usages": list(naming.usages(kind)),
    }

    async def post() -> dict[str, Any]:
        async with Client(who.account) as client:
            made = {"metadata": {"generateName": "of-a-test-"}, "spec": spec}
            return dict((await client.ask("POST", naming.REQUESTS, made)).checked()["metadata"])

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
