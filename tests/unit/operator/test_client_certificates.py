"""Client certificates go to pods of labelled namespaces and to persons with the RBAC right."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.cluster import kubernetes_names
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer_operator.plan import client_requests
from midstreamer_operator.plan.client_requests import OfAccess, OfNamespace
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import Approve, Deny, Done, Fail, Ignore, Sign
from midstreamer_operator.resources import access_reviews, client_namespace_label
from midstreamer_operator.resources.signing_requests import Condition, SigningRequest
from tests.support.api_server import a_pod_user
from tests.support.operator_builders import (
    CLIENTS,
    DOMAIN,
    KEY,
    LABEL,
    NAMESPACE,
    OTHER_UID,
    POLICY,
    RELEASE,
    UID,
    a_client_request,
    a_persons_request,
    a_request,
    approved,
    csr_pem,
    uri,
)

POD = identity.make(DOMAIN, Kind.CLIENT, f"{CLIENTS}/shop-0/{UID}")
DESK = identity.make(DOMAIN, Kind.CLIENT, "desk-1")
FOREIGN = a_pod_user("elsewhere", "default", "shop-0", UID)
CA = x509.BasicConstraints(ca=True, path_length=None)
WEAK_RSA = rsa.generate_private_key(65537, 1024)


def of_client(pod: str = "shop-0", namespace: str = CLIENTS, uid: str = UID) -> bytes:
    return csr_pem(uri("client", namespace, pod, uid))


def of_desk(name: str = "desk-1") -> bytes:
    return csr_pem(f"spiffe://{DOMAIN}/client/{name}")


FORGED: list[tuple[str, Reason, dict[str, Any]]] = [
    ("a person", Reason.NOT_A_POD, {"username": "jane", "groups": ()}),
    ("token of no pod", Reason.NOT_A_POD, {"pod_name": "", "pod_uid": ""}),
    ("token without a uid", Reason.NOT_A_POD, {"pod_uid": ""}),
    ("named like an account", Reason.NOT_A_POD, {"groups": ("system:authenticated",)}),
    (
        "a pod of another namespace",
        Reason.ANOTHER_NAMESPACE,
        {"username": FOREIGN.username, "groups": FOREIGN.groups},
    ),
    ("another pod", Reason.ANOTHER_POD, {"pem": of_client("shop-1")}),
    ("an earlier pod", Reason.ANOTHER_POD, {"pem": of_client(uid=OTHER_UID)}),
    ("a name of another namespace", Reason.ANOTHER_NAMESPACE, {"pem": of_client(namespace="x")}),
    ("a member", Reason.WRONG_KIND, {"pem": csr_pem(uri("agent", CLIENTS, "shop-0"))}),
    ("the operator", Reason.WRONG_KIND, {"pem": csr_pem(uri("operator", CLIENTS, "shop-0"))}),
    ("two parts", Reason.FOREIGN_NAME, {"pem": of_desk("app/shop-0")}),
    ("four parts", Reason.FOREIGN_NAME, {"pem": of_desk(f"app/shop-0/{UID}/more")}),
    ("no identity", Reason.FOREIGN_NAME, {"pem": csr_pem("https://example.org")}),
    (
        "another trust domain",
        Reason.FOREIGN_NAME,
        {"pem": csr_pem(uri("client", CLIENTS, "shop-0").replace(DOMAIN, "other.local"))},
    ),
    ("no name", Reason.NOT_ONE_NAME, {"pem": csr_pem()}),
    (
        "two names",
        Reason.NOT_ONE_NAME,
        {"pem": csr_pem(uri("client", CLIENTS, "shop-0"), f"spiffe://{DOMAIN}/client/desk-1")},
    ),
    (
        "a host name",
        Reason.WRONG_HOST_NAME,
        {"pem": csr_pem(uri("client", CLIENTS, "shop-0"), hosts=("postgres",))},
    ),
    (
        "server usage",
        Reason.WRONG_USAGE,
        {"usages": ("digital signature", "client auth", "server auth")},
    ),
    ("no usage", Reason.WRONG_USAGE, {"usages": ("digital signature",)}),
    (
        "an authority",
        Reason.MORE_THAN_NAMES,
        {"pem": csr_pem(uri("client", CLIENTS, "shop-0"), extensions=(CA,))},
    ),
    (
        "a weak key",
        Reason.WEAK_KEY,
        {"pem": csr_pem(uri("client", CLIENTS, "shop-0"), key=WEAK_RSA)},
    ),
    ("garbage", Reason.UNREADABLE, {"pem": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA"}),
]
IDS = [name.replace(" ", "_") for name, _, _ in FORGED]


def test_a_pod_of_a_labelled_namespace_is_approved_and_then_signed() -> None:
    assert client_requests.question(a_client_request(), POLICY) == OfNamespace(CLIENTS)
    assert client_requests.decide(a_client_request(), True, POLICY) == Approve(POD)
    again = a_client_request(conditions=approved(), expires_s=3600)
    assert client_requests.decide(again, True, POLICY) == Sign(POD, (), 3600.0)


def test_a_person_who_may_use_a_name_gets_it() -> None:
    assert client_requests.question(a_persons_request(), POLICY) == OfAccess("desk-1")
    assert client_requests.decide(a_persons_request(), True, POLICY) == Approve(DESK)
    again = a_persons_request(conditions=approved())
    assert client_requests.decide(again, True, POLICY) == Sign(DESK, (), 86_400.0)


def test_a_pod_whose_namespace_is_not_labelled_is_told_which_label_it_lacks() -> None:
    decision = client_requests.decide(a_client_request(), False, POLICY)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.NAMESPACE_NOT_LABELLED
    assert f"kubectl label namespace app {LABEL}=client" in decision.message


def test_a_person_without_the_right_is_told_which_right_he_lacks() -> None:
    decision = client_requests.decide(a_persons_request(), False, POLICY)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.NOT_ALLOWED
    assert "'jane' may not be client/desk-1: a role in namespace fleet must" in decision.message
    assert "the verb use on clientidentities.midstreamer.dev named desk-1" in decision.message


@pytest.mark.parametrize(("name", "reason", "changes"), FORGED, ids=IDS)
def test_a_forged_request_is_denied_with_its_own_word_and_asks_nothing(
    name: str, reason: Reason, changes: dict[str, Any]
) -> None:
    request = a_client_request(**changes)
    decision = client_requests.decide(request, True, POLICY)
    assert isinstance(decision, Deny)
    assert decision.reason is reason
    assert client_requests.question(request, POLICY) is None


@pytest.mark.parametrize("name", ["a member", "another pod", "server usage"])
def test_a_forged_request_that_somebody_else_approved_is_not_signed(name: str) -> None:
    (reason, changes), *_ = [(each[1], each[2]) for each in FORGED if each[0] == name]
    request = a_client_request(**changes, conditions=approved("KubectlApprove"))
    decision = client_requests.decide(request, True, POLICY)
    assert isinstance(decision, Fail)
    assert decision.reason is reason


@pytest.mark.parametrize("request_", [a_client_request, a_persons_request])
def test_a_right_that_was_taken_away_before_the_signature_counts(request_: Any) -> None:
    assert isinstance(client_requests.decide(request_(conditions=approved()), False, POLICY), Fail)


def test_a_pod_may_have_a_name_that_it_may_use() -> None:
    request = a_client_request(pem=of_desk())
    assert client_requests.question(request, POLICY) == OfAccess("desk-1")
    assert client_requests.decide(request, True, POLICY) == Approve(DESK)


def test_neither_signer_answers_the_others_requests() -> None:
    member = a_request()
    assert client_requests.question(member, POLICY) is None
    assert client_requests.decide(member, True, POLICY) == Ignore()
    other = a_client_request(signer=POLICY.client_signer.replace(".mid.", ".other."))
    assert client_requests.decide(other, True, POLICY) == Ignore()


def test_what_was_answered_asks_nothing_more() -> None:
    for settled in (
        a_client_request(conditions=(Condition("Denied", reason="x"),)),
        a_persons_request(conditions=approved(), has_certificate=True),
    ):
        assert client_requests.question(settled, POLICY) is None
        assert client_requests.decide(settled, True, POLICY) == Done()


@pytest.mark.parametrize(
    ("labels", "has"),
    [
        ({LABEL: "client"}, True),
        ({LABEL: "Client"}, False),
        ({LABEL: ""}, False),
        ({f"{LABEL}2": "client"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_a_namespace_is_let_in_by_the_very_label(labels: Any, has: bool) -> None:
    given_ = {"metadata": {"name": "app", "labels": labels}}
    assert client_namespace_label.has_clients(given_, NAMESPACE, RELEASE) is has


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ({"allowed": True}, True),
        ({"allowed": False}, False),
        ({"allowed": True, "denied": True}, False),
        ({}, False),
    ],
)
def test_a_review_allows_only_when_it_says_so(status: dict[str, bool], allowed: bool) -> None:
    assert access_reviews.is_allowed({"status": status}) is allowed


def test_a_review_asks_about_all_that_the_api_server_wrote_of_the_requester() -> None:
    spec = access_reviews.made(a_persons_request(), NAMESPACE, "desk-1")["spec"]
    assert (spec["user"], spec["uid"]) == ("jane", "u-7")
    assert spec["groups"] == ["desks", "system:authenticated"]
    assert spec["extra"] == {"example.org/team": ["desks"]}
    assert spec["resourceAttributes"] == {
        "namespace": NAMESPACE,
        "verb": "use",
        "group": "midstreamer.dev",
        "resource": "clientidentities",
        "name": "desk-1",
    }


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_denied_and_never_raise(pem: bytes) -> None:
    assert isinstance(client_requests.decide(a_client_request(pem=pem), True, POLICY), Deny)
    assert client_requests.question(a_client_request(pem=pem), POLICY) is None


SPACES = st.sampled_from([CLIENTS, NAMESPACE])
NAMES = st.sampled_from(["shop-0", "shop-1"])
UIDS = st.sampled_from([UID, OTHER_UID])
KINDS = st.sampled_from([Kind.CLIENT, Kind.AGENT, Kind.OPERATOR])


class Told(NamedTuple):
    """A test case: what a signing request contains, and what the API server says of its sender."""

    space: str
    name: str
    uid: str
    kind: Kind
    named_space: str
    named_pod: str
    named_uid: str
    usage: Kind
    labelled: bool


TOLD = st.builds(Told, SPACES, NAMES, UIDS, KINDS, SPACES, NAMES, UIDS, KINDS, st.booleans())


@settings(max_examples=400, deadline=None)
@given(TOLD)
def test_no_pod_is_approved_unless_all_that_the_api_server_says_agrees(told: Told) -> None:
    user = a_pod_user(told.space, "default", told.name, told.uid)
    named = told.named_space, told.named_pod, told.named_uid
    request: SigningRequest = a_client_request(
        pem=csr_pem(uri(told.kind, *named), key=KEY),
        usages=kubernetes_names.usages(told.usage),
        username=user.username,
        groups=user.groups,
        pod_name=told.name,
        pod_uid=told.uid,
    )
    decision = client_requests.decide(request, told.labelled, POLICY)
    agrees = (
        (told.space, told.name, told.uid) == named
        and told.kind is Kind.CLIENT
        and request.usages == kubernetes_names.usages(Kind.CLIENT)
        and told.labelled
    )
    assert isinstance(decision, Approve if agrees else Deny)
