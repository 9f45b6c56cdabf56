"""The decision about a pod's certificate request: every cause of a denial has its own reason."""

from __future__ import annotations

import base64
import ipaddress
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.cluster import kubernetes_names
from midstreamer.domain.identity import Kind
from midstreamer.telemetry import label_values
from midstreamer_operator.plan import issuance
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import STEPS, Approve, Deny, Done, Fail, Ignore, Sign, Step
from midstreamer_operator.resources.pod_certificate_fields import Pod
from midstreamer_operator.resources.signing_requests import Condition, SigningRequest
from tests.support.api_server import a_pod_user
from tests.support.operator_builders import (
    HOSTS,
    KEY,
    NAMESPACE,
    OTHER_UID,
    POLICY,
    UID,
    a_database_request,
    a_name,
    a_pod,
    a_request,
    approved,
    csr_pem,
    uri,
)

FOREIGN = a_pod_user("elsewhere", "mid-agent", "agent-0", UID)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
CA = x509.BasicConstraints(ca=True, path_length=None)
IP = x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
EDI_PARTY = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3007a505a1030c0161")
)
"""A subject alternative name of a kind that `cryptography` cannot parse."""
GOOD = csr_pem(uri())
"""A valid signing request. It is built only once, because the bytes of each new one differ, and
Hypothesis must find the same bytes when it repeats an example."""
FORGED: list[tuple[str, Reason, dict[str, Any]]] = [
    ("a person", Reason.NOT_A_POD, {"username": "jane", "groups": ()}),
    ("named like an account", Reason.NOT_A_POD, {"groups": ("system:authenticated",)}),
    ("token of no pod", Reason.NOT_A_POD, {"pod_name": "", "pod_uid": ""}),
    ("token without a uid", Reason.NOT_A_POD, {"pod_uid": ""}),
    (
        "a pod of another namespace",
        Reason.ANOTHER_NAMESPACE,
        {"username": FOREIGN.username, "groups": FOREIGN.groups},
    ),
    ("nothing", Reason.UNREADABLE, {"pem": b""}),
    ("garbage", Reason.UNREADABLE, {"pem": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA"}),
    ("a kind of name", Reason.UNREADABLE, {"pem": csr_pem(extensions=(EDI_PARTY,))}),
    ("a weak key", Reason.WEAK_KEY, {"pem": csr_pem(uri(), key=WEAK_RSA)}),
    (
        "a weak curve",
        Reason.WEAK_KEY,
        {"pem": csr_pem(uri(), key=ec.generate_private_key(ec.SECP224R1()))},
    ),
    ("an authority", Reason.MORE_THAN_NAMES, {"pem": csr_pem(uri(), extensions=(CA,))}),
    ("no name", Reason.NOT_ONE_NAME, {"pem": csr_pem()}),
    ("two names", Reason.NOT_ONE_NAME, {"pem": csr_pem(uri(), uri("sync"))}),
    ("the same name twice", Reason.NOT_ONE_NAME, {"pem": csr_pem(uri(), uri())}),
    ("an address", Reason.NOT_ONE_NAME, {"pem": csr_pem(uri(), others=(IP,))}),
    ("no identity", Reason.FOREIGN_NAME, {"pem": csr_pem("https://example.org")}),
    (
        "another trust domain",
        Reason.FOREIGN_NAME,
        {"pem": csr_pem(uri().replace("test.local", "other.local"))},
    ),
    ("too short", Reason.FOREIGN_NAME, {"pem": csr_pem("spiffe://test.local/agent/agent-0")}),
    ("too long", Reason.FOREIGN_NAME, {"pem": csr_pem(f"{uri()}/more")}),
    (
        "a name of another namespace",
        Reason.ANOTHER_NAMESPACE,
        {"pem": csr_pem(uri(namespace="elsewhere"))},
    ),
    (
        "an account of no kind",
        Reason.UNKNOWN_ACCOUNT,
        {"username": f"system:serviceaccount:{NAMESPACE}:default"},
    ),
    ("another kind", Reason.WRONG_KIND, {"pem": csr_pem(uri("coordinator"))}),
    ("the operator", Reason.WRONG_KIND, {"pem": csr_pem(uri("operator"))}),
    ("another pod", Reason.ANOTHER_POD, {"pem": csr_pem(uri(pod="agent-1"))}),
    ("an earlier pod", Reason.ANOTHER_POD, {"pem": csr_pem(uri(uid=OTHER_UID))}),
    ("a host name", Reason.WRONG_HOST_NAME, {"pem": csr_pem(uri(), hosts=("postgres",))}),
    (
        "server usage for a client",
        Reason.WRONG_USAGE,
        {"usages": ("digital signature", "client auth", "server auth")},
    ),
    ("no usage", Reason.WRONG_USAGE, {"usages": ("digital signature",)}),
    (
        "to certify others",
        Reason.WRONG_USAGE,
        {"usages": ("digital signature", "client auth", "cert sign")},
    ),
    ("a usage twice", Reason.WRONG_USAGE, {"usages": ("client auth", "client auth")}),
]
IDS = [name.replace(" ", "_") for name, _, _ in FORGED]


def decided(request: SigningRequest, pod: Pod | None = None) -> issuance.Decision:
    return issuance.decide(request, pod or a_pod(), POLICY)


def test_a_request_that_agrees_is_approved_and_then_signed() -> None:
    assert decided(a_request()) == Approve(a_name())
    assert decided(a_request(conditions=approved())) == Sign(a_name(), (), 86_400.0)


@pytest.mark.parametrize(("name", "reason", "changes"), FORGED, ids=IDS)
def test_a_forged_request_is_denied_with_its_own_word(
    name: str, reason: Reason, changes: dict[str, Any]
) -> None:
    decision = decided(a_request(**changes))
    assert isinstance(decision, Deny)
    assert decision.reason is reason
    assert len(decision.message) > 20


@pytest.mark.parametrize(("name", "reason", "changes"), FORGED, ids=IDS)
def test_a_forged_request_that_somebody_else_approved_is_not_signed(
    name: str, reason: Reason, changes: dict[str, Any]
) -> None:
    decision = decided(a_request(**changes, conditions=approved("KubectlApprove")))
    assert isinstance(decision, Fail)
    assert decision.reason is reason


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (None, "does not exist any more"),
        (a_pod(uid=OTHER_UID), "was replaced by another"),
        (a_pod(is_going=True), "is being deleted"),
    ],
)
def test_a_pod_that_is_gone_gets_no_certificate(pod: Pod | None, message: str) -> None:
    decision = issuance.decide(a_request(), pod, POLICY)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.POD_GONE
    assert message in decision.message


def test_a_pod_that_runs_as_another_account_gets_no_certificate() -> None:
    decision = decided(a_request(), a_pod(account="mid-sync"))
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.NOT_A_POD


def test_a_message_names_what_disagreed() -> None:
    decision = decided(a_request(pem=csr_pem(uri(pod="agent-1"))))
    assert isinstance(decision, Deny)
    assert "for pod agent-1" in decision.message
    assert f"the requester is pod agent-0 ({UID})" in decision.message


def test_another_signers_request_is_left_alone_whatever_it_says() -> None:
    for _, _, changes in FORGED:
        assert decided(a_request(**changes, signer="example.org/signer")) == Ignore()
    other_release = a_request(signer=POLICY.signer.replace(".mid.", ".other."))
    assert decided(other_release) == Ignore()


@pytest.mark.parametrize("type", ["Denied", "Failed"])
def test_what_was_answered_is_left_alone(type: str) -> None:
    assert decided(a_request(conditions=(Condition(type, reason="x"),))) == Done()
    assert decided(a_request(conditions=approved(), has_certificate=True)) == Done()


def test_the_database_may_carry_its_host_names_and_is_a_server_only() -> None:
    pod = Pod("postgres-0", UID, "mid-postgres")
    signed = decided(a_database_request(conditions=approved()), pod)
    assert signed == Sign(a_name(Kind.POSTGRES, "postgres-0"), HOSTS, 86_400.0)
    bare = a_database_request(pem=csr_pem(uri("postgres", pod="postgres-0")))
    assert isinstance(decided(bare, pod), Approve)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"pem": csr_pem(uri("postgres", pod="postgres-0"), hosts=("example.org",))},
            Reason.WRONG_HOST_NAME,
        ),
        (
            {"pem": csr_pem(uri("postgres", pod="postgres-0"), hosts=(*HOSTS, "*"))},
            Reason.WRONG_HOST_NAME,
        ),
        ({"usages": ("digital signature", "client auth")}, Reason.WRONG_USAGE),
        (
            {"usages": ("digital signature", "server auth", "client auth")},
            Reason.WRONG_USAGE,
        ),
    ],
)
def test_the_database_gets_no_more_than_that(changes: dict[str, Any], reason: Reason) -> None:
    decision = decided(a_database_request(**changes), Pod("postgres-0", UID, "mid-postgres"))
    assert isinstance(decision, Deny)
    assert decision.reason is reason


def test_a_life_is_as_asked_for_and_at_most_that_of_the_policy() -> None:
    for asked, life_s in ((3600, 3600.0), (10**9, 86_400.0), (None, 86_400.0)):
        decision = decided(a_request(conditions=approved(), expires_s=asked))
        assert isinstance(decision, Sign)
        assert decision.life_s == life_s


def test_an_identity_has_no_more_live_certificates_than_one_may_have() -> None:
    few, many = POLICY.live_max - 1, POLICY.live_max
    for conditions, denied in (((), Deny), (approved(), Fail)):
        request = a_request(conditions=conditions)
        agreed = decided(request)
        assert issuance.bounded(request, agreed, few, POLICY) == agreed
        decision = issuance.bounded(request, agreed, many, POLICY)
        assert isinstance(decision, denied)
        assert decision.reason is Reason.TOO_MANY
        assert f"{uri()} has {many} valid certificates, and may have {many}" in decision.message


def test_a_request_that_is_denied_anyway_keeps_its_own_word() -> None:
    request = a_request(pem=csr_pem(uri("sync")))
    agreed = decided(request)
    assert issuance.bounded(request, agreed, 10**6, POLICY) == agreed


def test_the_ledger_is_written_before_the_certificate_is_handed_over() -> None:
    assert STEPS[Sign] == (Step.RECORD, Step.HAND_OVER)
    assert STEPS[Deny][-1] is Step.DENY
    assert {step for steps in STEPS.values() for step in steps} == set(Step)


def test_every_reason_is_a_word_of_the_metric_and_explains_itself() -> None:
    assert frozenset(Reason) | {"signed"} == label_values.SIGNED
    # Tested in tests/unit/operator/test_client_certificates.py.
    of_clients = {Reason.NAMESPACE_NOT_LABELLED, Reason.NOT_ALLOWED}
    others = {Reason.POD_GONE, Reason.TOO_MANY}
    assert {reason for _, reason, _ in FORGED} | others == set(Reason) - of_clients


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_denied_and_never_raise(pem: bytes) -> None:
    assert isinstance(decided(a_request(pem=pem)), Deny)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_request_that_was_tampered_with_is_denied_or_the_same(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    body = bytearray(base64.b64decode(b"".join(lines[1:-1])))
    place = data.draw(st.integers(0, len(body) - 1))
    before = body[place]
    body[place] = data.draw(st.integers(0, 255))
    pem = b"\n".join([lines[0], base64.b64encode(bytes(body)), lines[-1]])
    decision = decided(a_request(pem=pem))
    assert isinstance(decision, Approve if body[place] == before else Deny)


NAMES = st.sampled_from(["agent-0", "agent-1", "postgres-0"])
UIDS = st.sampled_from([UID, OTHER_UID])
SPACES = st.sampled_from([NAMESPACE, "elsewhere"])
ACCOUNTS = st.sampled_from([*POLICY.kinds, "default"])
KINDS = st.sampled_from([str(kind) for kind in Kind])


class Told(NamedTuple):
    """A test case: what a signing request contains, and what the API server says of its sender."""

    space: str
    account: str
    name: str
    uid: str
    kind: str
    named_space: str
    named_pod: str
    named_uid: str
    runs_as: str
    usage: Kind


TOLD = st.builds(
    Told, SPACES, ACCOUNTS, NAMES, UIDS, KINDS, SPACES, NAMES, UIDS, ACCOUNTS, st.sampled_from(Kind)
)


@settings(max_examples=400, deadline=None)
@given(TOLD)
def test_nothing_is_approved_unless_all_that_the_api_server_says_agrees(told: Told) -> None:
    user = a_pod_user(told.space, told.account, told.name, told.uid)
    request = a_request(
        pem=csr_pem(uri(told.kind, told.named_space, told.named_pod, told.named_uid), key=KEY),
        usages=kubernetes_names.usages(told.usage),
        username=user.username,
        groups=user.groups,
        pod_name=told.name,
        pod_uid=told.uid,
    )
    decision = issuance.decide(request, Pod(told.name, told.uid, told.runs_as), POLICY)
    agrees = (
        told.space == told.named_space == NAMESPACE
        and (told.name, told.uid) == (told.named_pod, told.named_uid)
        and POLICY.kinds.get(told.account) == told.kind
        and told.runs_as == told.account
        and request.usages == kubernetes_names.usages(Kind(told.kind))
    )
    assert isinstance(decision, Approve if agrees else Deny)
