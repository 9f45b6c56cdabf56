"""With a real API server, pods get certificates from the operator, and forged requests are denied.

The operator runs in the test process, with exactly the rights of its pod.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Client
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput, Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.runtime.config import SecuritySettings, TelemetrySettings
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer_operator.leadership import Replica
from midstreamer_operator.resources import certificate_ledger
from midstreamer_operator.settings import OperatorSettings
from midstreamer_operator.signals import Signals
from tests.cluster.pods import Kubernetes
from tests.cluster.requester_accounts import RELEASE, Bound, Installation
from tests.support.api_server import until
from tests.support.operator_builders import csr_pem

pytestmark = [pytest.mark.cluster]

DOMAIN = "test.local"
WITHIN_S = 20.0
ENDS = ("Denied", "Failed")
WEAK = rsa.generate_private_key(65537, 1024)


@pytest.fixture(scope="module")
def signing(
    kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    installation = Installation(kubernetes, tmp_path_factory.mktemp("accounts"))
    installation.apply()
    yield installation
    installation.remove()


@pytest.fixture(scope="module")
def members(signing: Installation) -> dict[str, Bound]:
    accounts = ("operator", "agent", "postgres", "stranger")
    return {name: signing.pod(f"{name}-0", f"mid-{name}") for name in accounts}


def settings_of(pod: Bound) -> OperatorSettings:
    return OperatorSettings(
        namespace=pod.account.namespace,
        release=RELEASE,
        pod=pod.name,
        uid=pod.uid,
        accounts={
            "mid-agent": Kind.AGENT,
            "mid-coordinator": Kind.COORDINATOR,
            "mid-postgres": Kind.POSTGRES,
        },
        postgres_hosts=("postgres",),
        security=SecuritySettings(trust_domain=DOMAIN),
        telemetry=TelemetrySettings(listen=None),
    )


@asynccontextmanager
async def operating(pod: Bound, **changes: Any) -> AsyncIterator[Replica]:
    """Run a replica of the operator and wait until it leads; `changes` replace its settings."""
    signals = Signals()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(pod.account))
        settings = settings_of(pod).model_copy(update=changes)
        replica = Replica(settings, client, pod.account, signals)
        task = asyncio.create_task(replica.run())
        try:
            await until(lambda: replica.leads, within_s=WITHIN_S)
            yield replica
        finally:
            signals.stop.set()
            await task
            signals.release()


def issuer(pod: Bound) -> ClusterIssuer:
    client = Client(pod.account, idle_max=0)
    return ClusterIssuer(client, namespace=pod.account.namespace, release=RELEASE)


def named(pod: Bound, kind: Kind = Kind.AGENT) -> Identity:
    return identity.make(DOMAIN, kind, f"{pod.account.namespace}/{pod.name}/{pod.uid}")


def requests(kubernetes: Kubernetes) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for signer in (kubernetes_names.signer, kubernetes_names.client_signer):
        only = f"--field-selector=spec.signerName={signer(kubernetes.namespace, RELEASE)}"
        items += kubernetes.get("csr", only)["items"]
    return items


async def posted(pod: Bound, pem: bytes, **spec: Any) -> str:
    """Post a signing request without waiting for its certificate; return its name."""
    request = {
        "metadata": {"generateName": "by-hand-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": kubernetes_names.signer(pod.account.namespace, RELEASE),
            "usages": list(kubernetes_names.usages(Kind.AGENT)),
            **spec,
        },
    }
    async with Client(pod.account) as client:
        answer = await client.ask("POST", kubernetes_names.REQUESTS, request)
    return str(answer.checked()["metadata"]["name"])


def conditions(kubernetes: Kubernetes, name: str) -> dict[str, str]:
    status = kubernetes.get(f"csr/{name}")["status"]
    return {each["type"]: each["reason"] for each in status.get("conditions", [])}


def certificate(kubernetes: Kubernetes, name: str) -> str:
    return str(kubernetes.get(f"csr/{name}")["status"].get("certificate", ""))


async def test_a_pod_waits_for_the_operator_and_then_earns_its_certificate(
    members: dict[str, Bound],
) -> None:
    agent = members["agent"]
    source = RequestedSource(named(agent), issuer(agent))
    task = asyncio.create_task(source.obtain())
    await until(lambda: "neither approved nor denied" in source.waiting, within_s=WITHIN_S)
    async with operating(members["operator"]), asyncio.timeout(WITHIN_S):
        credentials = await task
    assert credentials.identity == named(agent)
    assert credentials.anchors


async def test_the_database_earns_one_with_its_host_name(members: dict[str, Bound]) -> None:
    postgres = members["postgres"]
    source = RequestedSource(named(postgres, Kind.POSTGRES), issuer(postgres), hosts=("postgres",))
    async with operating(members["operator"]), asyncio.timeout(WITHIN_S):
        credentials = await source.obtain()
    names = credentials.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["postgres"]


FORGED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "another pod": ("AnotherPod", "agent", "spiffe://{d}/agent/{n}/agent-1/{u}", {}),
    "an earlier pod": ("AnotherPod", "agent", "spiffe://{d}/agent/{n}/agent-0/x{u}", {}),
    "another namespace": ("AnotherNamespace", "agent", "spiffe://{d}/agent/x/agent-0/{u}", {}),
    "the wrong kind": ("WrongKind", "agent", "spiffe://{d}/sync/{n}/agent-0/{u}", {}),
    "a name not ours": ("ForeignName", "agent", "https://example.org", {}),
    "a weak key": ("WeakKey", "agent", "spiffe://{d}/agent/{n}/agent-0/{u}", {"key": WEAK}),
    "no kind": ("UnknownAccount", "stranger", "spiffe://{d}/agent/{n}/stranger-0/{u}", {}),
    "a host name": (
        "WrongHostName",
        "agent",
        "spiffe://{d}/agent/{n}/agent-0/{u}",
        {"hosts": ("postgres",)},
    ),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_forged_request_is_denied_with_an_event_that_says_why(
    signing: Installation, members: dict[str, Bound], what: str
) -> None:
    reason, who, template, given = FORGED[what]
    pod = members[who]
    uri = template.format(d=DOMAIN, n=signing.namespace, u=pod.uid)
    with pytest.raises(Refused) as raised:
        async with operating(members["operator"]), asyncio.timeout(WITHIN_S):
            await issuer(pod).sign(csr_pem(uri, **given), named(pod))
    assert raised.value.reason == reason
    events = signing.kubernetes.get("events", f"--field-selector=reason={reason}")["items"]
    assert {each["involvedObject"]["name"] for each in events} == {pod.name}


async def test_two_names_and_server_usage_are_denied(
    signing: Installation, members: dict[str, Bound]
) -> None:
    agent = members["agent"]
    uri = named(agent).uri
    two = await posted(agent, csr_pem(uri, uri))
    usage = await posted(
        agent, csr_pem(uri), usages=list(kubernetes_names.usages(Kind.COORDINATOR))
    )
    async with operating(members["operator"]):
        await until(lambda: conditions(signing.kubernetes, usage), within_s=WITHIN_S)
        await until(lambda: conditions(signing.kubernetes, two), within_s=WITHIN_S)
    assert conditions(signing.kubernetes, two) == {"Denied": "NotOneName"}
    assert conditions(signing.kubernetes, usage) == {"Denied": "WrongUsage"}


async def test_a_pod_that_was_deleted_before_the_approval_is_denied(
    signing: Installation, members: dict[str, Bound]
) -> None:
    gone = signing.pod("gone-0", "mid-agent")
    name = await posted(gone, csr_pem(named(gone).uri))
    signing.kubernetes("delete", "pod", "gone-0", "--grace-period=0", "--force")
    async with operating(members["operator"]):
        await until(lambda: conditions(signing.kubernetes, name), within_s=WITHIN_S)
    assert conditions(signing.kubernetes, name) == {"Denied": "PodGone"}


async def test_what_was_approved_while_no_operator_ran_is_signed_if_it_agrees_and_else_fails(
    signing: Installation, members: dict[str, Bound]
) -> None:
    agent = members["agent"]
    good = await posted(agent, csr_pem(named(agent).uri))
    forged = await posted(agent, csr_pem(named(agent, Kind.COORDINATOR).uri))
    other = await posted(agent, csr_pem(named(agent).uri), signerName="example.org/other")
    signing.kubernetes("certificate", "approve", good, forged, other)
    async with operating(members["operator"]):
        await until(lambda: "Failed" in conditions(signing.kubernetes, forged), within_s=WITHIN_S)
        await until(lambda: certificate(signing.kubernetes, good), within_s=WITHIN_S)
    assert conditions(signing.kubernetes, forged)["Failed"] == "WrongKind"
    untouched = signing.kubernetes.get(f"csr/{other}")["status"]
    assert [each["type"] for each in untouched["conditions"]] == ["Approved"]
    assert "certificate" not in untouched


async def test_a_pod_that_asks_for_ever_more_is_denied_whoever_leads_by_then(
    signing: Installation, members: dict[str, Bound]
) -> None:
    greedy, reason_counts = signing.pod("greedy-0", "mid-agent"), []
    for count in (7, 4):
        names = {await posted(greedy, csr_pem(named(greedy).uri)) for _ in range(count)}
        async with operating(members["operator"], live_max=8), asyncio.timeout(WITHIN_S):
            reasons: list[str] = []
            while len(reasons) < count:
                reasons = await asyncio.to_thread(answers, signing.kubernetes, names)
        reason_counts.append(Counter(reasons))
    assert reason_counts == [{"IdentityAgrees": 7}, {"IdentityAgrees": 1, "TooManyCertificates": 3}]


def answers(kubernetes: Kubernetes, names: set[str]) -> list[str]:
    """Return the reasons why these requests were signed or denied; undecided ones are left out."""
    statuses = [
        each["status"] for each in requests(kubernetes) if each["metadata"]["name"] in names
    ]
    return [
        status["conditions"][-1]["reason"]
        for status in statuses
        if status.get("certificate") or status.get("conditions", [{}])[-1].get("type") in ENDS
    ]


async def test_a_request_that_is_none_does_not_even_reach_the_operator(
    members: dict[str, Bound],
) -> None:
    with pytest.raises(BadInput, match="PEM block type must be CERTIFICATE REQUEST"):
        await posted(members["agent"], b"garbage")


async def asked_as_client(pod: Bound, uri: str, named_: Identity) -> None:
    """Request a client certificate for `uri`, and check that the certificate contains it.

    Raises Refused when the request is denied.
    """
    async with asyncio.timeout(WITHIN_S):
        signed = await issuer(pod).sign(csr_pem(uri), named_)
    names = signed.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [uri]


async def test_a_pod_is_a_client_while_its_namespace_is_labelled(
    signing: Installation, members: dict[str, Bound]
) -> None:
    shop = signing.pod("shop-0", "default")
    who = named(shop, Kind.CLIENT)
    other = named(members["agent"], Kind.CLIENT)
    async with operating(members["operator"]):
        with pytest.raises(Refused, match="kubectl label namespace") as raised:
            await asked_as_client(shop, who.uri, who)
        assert raised.value.reason == "NamespaceNotLabelled"
        signing.let_clients_in(labelled=True)
        await asked_as_client(shop, who.uri, who)
        with pytest.raises(Refused) as raised:
            await asked_as_client(shop, other.uri, other)
        assert raised.value.reason == "AnotherPod"
        signing.let_clients_in(labelled=False)
        with pytest.raises(Refused) as raised:
            await asked_as_client(shop, who.uri, who)
        assert raised.value.reason == "NamespaceNotLabelled"


async def test_a_person_is_the_client_that_a_role_lets_him_be_and_no_other(
    signing: Installation, members: dict[str, Bound]
) -> None:
    jane = Bound("jane", "", signing.person("jane", "desk-1"))
    desk, other = (identity.make(DOMAIN, Kind.CLIENT, name) for name in ("desk-1", "desk-2"))
    async with operating(members["operator"]):
        await asked_as_client(jane, desk.uri, desk)
        with pytest.raises(Refused, match="must allow the verb use") as raised:
            await asked_as_client(jane, other.uri, other)
        assert raised.value.reason == "NotAllowed"


async def test_two_replicas_are_ready_and_one_leads(
    signing: Installation, members: dict[str, Bound]
) -> None:
    second = signing.pod("operator-1", "mid-operator")
    async with operating(members["operator"]) as one, Client(second.account) as client:
        signals = Signals()
        two = Replica(settings_of(second), client, second.account, signals)
        task = asyncio.create_task(two.run())
        await until(lambda: not two.serving_reasons(), within_s=WITHIN_S)
        assert (one.serving_reasons(), one.leads, two.leads) == ([], True, False)
        signals.stop.set()
        await task
        signals.release()


def test_the_ledger_has_each_certificate_that_was_handed_over_once(
    signing: Installation,
) -> None:
    label = f"--selector={certificate_ledger.selector(RELEASE)}"
    found = signing.kubernetes.get("configmaps", label)["items"]
    recorded = [certificate_ledger.read(each).certificate for each in found]
    handed = [
        base64.b64decode(each["status"]["certificate"]).decode()
        for each in requests(signing.kubernetes)
        if each["status"].get("certificate")
    ]
    assert handed
    assert [recorded.count(each) for each in handed] == [1] * len(handed)
    assert all(each["immutable"] for each in found)
    text = json.dumps(found)
    assert "PRIVATE" not in text
