"""The operator answers signing requests; if it dies at any API call, its next start goes on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Answer, Object
from midstreamer.domain.errors import BadInput, Conflict, Refused, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.security import certificate_chain
from midstreamer.security.authority import establish
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.telemetry import metrics
from midstreamer_operator import api_reads, api_writes, signing_reconciler
from midstreamer_operator.api_writes import Overtaken
from midstreamer_operator.plan.denial_reasons import Reason
from midstreamer_operator.plan.issuance import Done, Ignore
from midstreamer_operator.resources import certificate_ledger
from tests.support.api_server import ADMIN, ApiServer, Caller, until
from tests.support.metric_values import shown
from tests.support.operator_builders import (
    AUTHORITY,
    CLIENTS,
    DOMAIN,
    HOSTS,
    NAMESPACE,
    NOW_S,
    OWN,
    POLICY,
    RELEASE,
    UID,
    a_name,
    a_signer,
    an_installation,
    csr_pem,
    posted,
    uri,
)

LEDGER = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


def current(server: ApiServer, given: Object) -> Object:
    return server.objects[kubernetes_names.REQUESTS][given["metadata"]["name"]]


def certificate(server: ApiServer, given: Object) -> bytes:
    return base64.b64decode(current(server, given)["status"].get("certificate", ""))


def condition(server: ApiServer, given: Object) -> dict[str, Any]:
    (only,) = current(server, given)["status"]["conditions"]
    return dict(only)


def conditions(server: ApiServer, given: Object) -> list[dict[str, Any]]:
    return list(current(server, given)["status"].get("conditions") or ())


def entries(server: ApiServer) -> list[certificate_ledger.Entry]:
    return [certificate_ledger.read(entry) for entry in server.all(LEDGER)]


async def test_a_pod_gets_a_certificate_that_its_peers_believe() -> None:
    server = an_installation()
    given = posted(server)
    assert await a_signer(server).reconcile(given) == Done()
    (leaf,) = x509.load_pem_x509_certificates(certificate(server, given))
    presented = Presented(leaf)
    who = certificate_chain.identify(presented, [AUTHORITY.certificate], Role.DIALS, NOW_S + 1.0)
    assert who == a_name()
    assert leaf.not_valid_after_utc.timestamp() == NOW_S + 86_400.0


async def test_the_ledger_tells_all_that_is_needed_to_revoke_it() -> None:
    server = an_installation()
    given = posted(server)
    await a_signer(server).reconcile(given)
    (entry,) = entries(server)
    leaf = x509.load_pem_x509_certificate(certificate(server, given))
    assert int(entry.serial, 16) == leaf.serial_number
    assert entry.key_hash == api_writes.key_hash(leaf)
    assert entry.id == uri()
    assert entry.ends_s == leaf.not_valid_after_utc.timestamp()
    assert entry.certificate.encode() == certificate(server, given)


async def test_the_database_gets_its_host_names() -> None:
    server = an_installation()
    pem = csr_pem(uri("postgres", pod="postgres-0"), hosts=HOSTS)
    usages = list(kubernetes_names.usages(Kind.POSTGRES))
    given = posted(server, pem, by=f"{NAMESPACE}/postgres-0", usages=usages)
    assert await a_signer(server).reconcile(given) == Done()
    leaf = x509.load_pem_x509_certificate(certificate(server, given))
    names = certificate_chain.extension(leaf, x509.SubjectAlternativeName)
    assert names is not None
    assert tuple(names.get_values_for_type(x509.DNSName)) == HOSTS


async def test_a_denial_says_why_in_the_request_and_in_an_event_about_the_pod() -> None:
    server = an_installation()
    given = posted(server, csr_pem(uri(pod="agent-1")))
    assert await a_signer(server).reconcile(given) == Done()
    denial = condition(server, given)
    assert (denial["type"], denial["reason"]) == ("Denied", Reason.ANOTHER_POD)
    (event,) = server.all(EVENTS)
    assert event["involvedObject"]["name"] == "agent-0"
    assert event["involvedObject"]["uid"] == UID
    assert denial["message"] in event["message"]


async def test_a_denial_of_a_pod_of_another_namespace_is_an_event_about_the_operators_pod() -> None:
    server = an_installation()
    server.pod("elsewhere", "agent-0", "mid-agent")
    given = posted(server, by="elsewhere/agent-0")
    await a_signer(server).reconcile(given)
    assert condition(server, given)["reason"] == Reason.ANOTHER_NAMESPACE
    (event,) = server.all(EVENTS)
    assert event["involvedObject"]["name"] == OWN[0]
    assert "elsewhere/agent-0" in event["message"]


async def test_a_pod_deleted_before_the_approval_is_denied() -> None:
    server = an_installation()
    given = posted(server)
    del server.objects[f"/api/v1/namespaces/{NAMESPACE}/pods"]["agent-0"]
    await a_signer(server).reconcile(given)
    assert condition(server, given)["reason"] == Reason.POD_GONE
    assert entries(server) == []


async def test_a_forged_request_that_somebody_approved_by_hand_fails() -> None:
    server = an_installation()
    given = posted(server, csr_pem(uri("coordinator")))
    given = await api_writes.approve(Caller(server, ADMIN), given, "I know better")
    await a_signer(server).reconcile(given)
    by_type = {each["type"]: each for each in current(server, given)["status"]["conditions"]}
    assert by_type["Failed"]["reason"] == Reason.WRONG_KIND
    assert certificate(server, given) == b""


async def test_a_client_pod_gets_a_certificate_and_the_pod_is_never_read() -> None:
    server = an_installation()
    given = posted_by_client(server)
    server.calls.clear()
    assert await a_signer(server).reconcile(given) == Done()
    (leaf,) = x509.load_pem_x509_certificates(certificate(server, given))
    who = certificate_chain.identify(
        Presented(leaf), [AUTHORITY.certificate], Role.DIALS, NOW_S + 1.0
    )
    assert who.name == f"client/{CLIENTS}/shop-0/{UID}"
    (entry,) = entries(server)
    assert entry.id == who.uri
    assert not [path for _, path in server.calls if "/pods" in path]


async def test_a_client_pod_is_denied_once_its_namespace_is_not_labelled_any_more() -> None:
    server = an_installation()
    server.namespace(CLIENTS)
    given = posted_by_client(server)
    await a_signer(server).reconcile(given)
    assert condition(server, given)["reason"] == Reason.NAMESPACE_NOT_LABELLED
    (event,) = server.all(EVENTS)
    assert event["involvedObject"]["name"] == OWN[0]
    assert entries(server) == []


@pytest.mark.parametrize("may", [True, False])
async def test_a_person_gets_the_name_that_he_may_use_and_no_other(may: bool) -> None:
    server = an_installation()
    server.uses = {("jane", NAMESPACE, "desk-1" if may else "desk-2")}
    pem = csr_pem(f"spiffe://{DOMAIN}/client/desk-1")
    given = posted_by_client(server, pem, by="jane")
    await a_signer(server).reconcile(given)
    by_type = {each["type"] for each in current(server, given)["status"]["conditions"]}
    assert by_type == ({"Approved"} if may else {"Denied"})
    assert [entry.id for entry in entries(server)] == may * [f"spiffe://{DOMAIN}/client/desk-1"]


async def test_a_sweep_finds_requests_of_both_signers() -> None:
    server = an_installation()
    posted(server)
    posted_by_client(server)
    assert await a_signer(server).sweep() == 2
    assert len(entries(server)) == 2


def posted_by_client(
    server: ApiServer, pem: bytes = b"", *, by: str = f"{CLIENTS}/shop-0"
) -> Object:
    return posted(
        server,
        pem or csr_pem(uri("client", CLIENTS, "shop-0")),
        by=by,
        signerName=POLICY.client_signer,
        usages=list(kubernetes_names.usages(Kind.CLIENT)),
    )


async def test_another_signers_request_is_never_written_to() -> None:
    server = an_installation()
    given = posted(server, signerName="example.org/other")
    server.calls.clear()
    assert await a_signer(server).reconcile(given) == Ignore()
    await a_signer(server).sweep()
    assert {method for method, _ in server.calls} == {"GET"}


async def test_a_stale_request_is_left_to_the_next_event() -> None:
    server = an_installation()
    given = posted(server)
    await a_signer(server).reconcile(given)
    with pytest.raises(Overtaken):
        await a_signer(server).reconcile(given)
    assert len(entries(server)) == 1


async def test_a_pod_that_asks_for_ever_more_is_denied_and_nobody_else_is() -> None:
    server = an_installation()
    given = [posted(server) for _ in range(4)]
    signer = a_signer(server, policy=replace(POLICY, live_max=3))
    await asyncio.gather(*(signer.reconcile(each) for each in given))
    database = posted(
        server,
        csr_pem(uri("postgres", pod="postgres-0"), hosts=HOSTS),
        by=f"{NAMESPACE}/postgres-0",
        usages=list(kubernetes_names.usages(Kind.POSTGRES)),
    )
    assert await signer.reconcile(database) == Done()
    kinds = [{each["type"] for each in conditions(server, request)} for request in given]
    assert sum("Failed" in each or "Denied" in each for each in kinds) == 1
    assert len(entries(server)) == 4
    (event,) = server.all(EVENTS)
    assert event["reason"] == Reason.TOO_MANY


async def test_the_next_leader_reads_in_the_ledger_how_many_there_are() -> None:
    server = an_installation()
    policy = replace(POLICY, live_max=3)
    for _ in range(3):
        await a_signer(server, policy=policy).reconcile(posted(server))
    given = posted(server)
    await a_signer(server, policy=policy).reconcile(given)
    assert condition(server, given)["reason"] == Reason.TOO_MANY
    later = posted(server)
    ended_s = NOW_S + 86_401.0
    await a_signer(server, policy=policy, now=lambda: ended_s).reconcile(later)
    assert certificate(server, later)


async def test_the_last_certificate_of_an_identity_is_handed_over_by_the_next_leader() -> None:
    server, policy = an_installation(), replace(POLICY, live_max=1)
    given = posted(server)
    server.allows = lambda user, verb, path: not path.endswith("/status")
    with pytest.raises(Refused):
        await a_signer(server, policy=policy).reconcile(given)
    server.allows = lambda user, verb, path: True
    assert len(entries(server)) == 1
    assert await a_signer(server, policy=policy).reconcile(current(server, given)) == Done()
    assert certificate(server, given)


async def test_an_event_that_cannot_be_written_keeps_no_denial_from_being_written() -> None:
    server = an_installation()
    server.allows = lambda user, verb, path: not path.endswith("/events")
    given = posted(server, csr_pem(uri(pod="agent-1")))
    assert await a_signer(server).reconcile(given) == Done()
    assert condition(server, given)["reason"] == Reason.ANOTHER_POD
    assert server.all(EVENTS) == []


async def test_a_replica_that_lost_the_lease_writes_nothing() -> None:
    server = an_installation()
    given = posted(server)
    with pytest.raises(Overtaken):
        await a_signer(server, may_act=lambda: False).reconcile(given)
    assert {method for method, _ in server.calls[1:]} == {"GET"}


async def test_a_ledger_entry_for_another_key_is_not_handed_out() -> None:
    server = an_installation()
    given = posted(server)
    entry = certificate_ledger.Entry("1", "00", uri(), "00", "1.0", "x", "another certificate")
    server.put(LEDGER, certificate_ledger.written(RELEASE, given["metadata"]["uid"], entry))
    with pytest.raises(Conflict, match="records a certificate of"):
        await a_signer(server).reconcile(given)
    assert certificate(server, given) == b""


async def test_a_certificate_ends_no_later_than_its_authority() -> None:
    short = establish(DOMAIN, now_s=NOW_S, days=0.5)
    server = an_installation()
    given = posted(server)
    await a_signer(server, authority=short).reconcile(given)
    leaf = x509.load_pem_x509_certificate(certificate(server, given))
    assert leaf.not_valid_after_utc <= short.certificate.not_valid_after_utc


async def test_one_request_that_cannot_be_answered_does_not_keep_the_others_waiting() -> None:
    server = an_installation()
    first, second = posted(server), posted(server)
    entry = certificate_ledger.Entry("1", "00", uri(), "00", "9e9", "x", "another certificate")
    server.put(LEDGER, certificate_ledger.written(RELEASE, first["metadata"]["uid"], entry))
    with pytest.raises(Conflict):
        await a_signer(server).sweep()
    assert certificate(server, second)


async def test_requests_that_stay_without_an_answer_and_live_certificates_are_counted() -> None:
    server = an_installation()
    posted(server)
    await a_signer(server).sweep()
    assert shown(metrics.SIGNING_REQUESTS_WAITING) == 0
    assert shown(metrics.LIVE_CERTIFICATES, kind="agent") == 1
    first = posted(server)
    entry = certificate_ledger.Entry("1", "00", uri(), "00", "9e9", "x", "another certificate")
    server.put(LEDGER, certificate_ledger.written(RELEASE, first["metadata"]["uid"], entry))
    with pytest.raises(Conflict):
        await a_signer(server).sweep()
    assert shown(metrics.SIGNING_REQUESTS_WAITING) == 1
    assert shown(metrics.LIVE_CERTIFICATES, kind="agent") == 2


async def test_an_object_that_cannot_be_read_is_named_and_keeps_nobody_waiting() -> None:
    server = an_installation()
    strange = {"metadata": {"name": "strange"}, "spec": {"signerName": POLICY.signer, "usages": 7}}
    server.put(kubernetes_names.REQUESTS, strange)
    given = posted(server)
    with pytest.raises(BadInput, match="signing request strange cannot be read: .*usages"):
        await a_signer(server).sweep()
    assert certificate(server, given)


async def test_many_at_once_take_turns() -> None:
    server = an_installation()
    signer = a_signer(server)
    given = [posted(server) for _ in range(3 * signing_reconciler.PASSES_AT_ONCE)]
    under_way: list[int] = []

    def may_act() -> bool:
        under_way.append(signing_reconciler.PASSES_AT_ONCE - signer._places._value)
        return True

    signer.may_act = may_act
    await asyncio.gather(*(signer.handle(each) for each in given))
    assert all(certificate(server, each) for each in given)
    assert max(under_way) == signing_reconciler.PASSES_AT_ONCE


async def test_an_event_of_before_the_answer_is_passed_over() -> None:
    server = an_installation()
    signer = a_signer(server)
    given = posted(server)
    await signer.handle(given)
    calls = len(server.calls)
    await signer.handle(given)
    assert len(server.calls) == calls


async def test_a_request_is_tried_again_while_the_api_server_is_away() -> None:
    server = an_installation()
    given = posted(server)
    server.is_away = True
    task = asyncio.create_task(a_signer(server).handle(given))
    await until(lambda: server.refused > 1)
    server.is_away = False
    await task
    assert certificate(server, given)


async def test_the_ledger_forgets_what_has_ended_long_ago_and_nothing_else() -> None:
    server = an_installation()
    server.put(LEDGER, {"metadata": {"name": "mine", "labels": {"a": "b"}}, "data": {}})
    strange = {
        "metadata": {"name": "strange", "labels": {certificate_ledger.LABEL: RELEASE}},
        "data": {},
    }
    server.put(LEDGER, strange)
    given = posted(server)
    await a_signer(server).reconcile(given)
    later_s = NOW_S + 86_400.0 + signing_reconciler.KEPT_S
    await a_signer(server, now=lambda: later_s - 1.0).sweep()
    assert len(server.all(LEDGER)) == 3
    await a_signer(server, now=lambda: later_s + 1.0).sweep()
    assert {entry["metadata"]["name"] for entry in server.all(LEDGER)} == {"mine", "strange"}


async def test_the_sweep_reads_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_reads, "PAGE", "2")
    server = an_installation()
    given = [posted(server) for _ in range(5)]
    assert await a_signer(server).sweep() == 5
    assert all(certificate(server, each) for each in given)


# --- crashes --------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for the death of the operator process at a call to the API server."""


@dataclass
class Fragile:
    """Stands for the `Api` of an operator that dies at its call number `dies_at`.

    It dies before the server executes this call, or after that if `after` is true. For the calls
    with a number in `lost_at`, the server executes the call, but its answer is lost: the operator
    gets `Unavailable`.
    """

    inner: Caller
    dies_at: int
    after: bool
    lost_at: frozenset[int] = frozenset()
    calls: int = field(default=0, init=False)

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        self.calls += 1
        if self.calls == self.dies_at and not self.after:
            raise Killed
        answer = await self.inner.ask(method, path, body, query=query)
        if self.calls == self.dies_at:
            raise Killed
        if self.calls in self.lost_at:
            raise Unavailable("the answer was lost")
        return answer

    def watch(self, path: str, query: Mapping[str, str], *, lasts_s: float) -> Any:
        return self.inner.watch(path, query, lasts_s=lasts_s)


def check_ledger(server: ApiServer) -> None:
    """Check that the ledger has one entry for each certificate that a requester has received."""
    handed = [
        base64.b64decode(request["status"]["certificate"]).decode()
        for request in server.all(kubernetes_names.REQUESTS)
        if request["status"].get("certificate")
    ]
    recorded = [entry.certificate for entry in entries(server)]
    for each in handed:
        assert recorded.count(each) == 1
    assert len(set(recorded)) == len(recorded)


PENDING = [csr_pem(uri()), csr_pem(uri("coordinator")), csr_pem(uri(pod="agent-1"))]


async def lived(server: ApiServer, api: Any) -> None:
    """Let an operator handle all open requests once; ignore `Killed` and `Unavailable`."""
    try:
        await a_signer(server, api=api).sweep()
    except (Killed, Unavailable):
        pass


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 20))
async def test_a_crash_at_any_call_is_picked_up(dies_at: int, after: bool) -> None:
    server = an_installation()
    given = [posted(server, pem) for pem in PENDING]
    await lived(server, Fragile(Caller(server), dies_at, after))
    check_ledger(server)
    await lived(server, Caller(server))
    check_ledger(server)
    assert [bool(certificate(server, each)) for each in given] == [True, False, False]
    assert len(entries(server)) == 1
    assert len(server.all(EVENTS)) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.booleans(), st.frozensets(st.integers(1, 20))), max_size=6
    )
)
async def test_any_sequence_of_crashes_and_lost_answers_ends_well(
    lives: list[tuple[int, bool, frozenset[int]]],
) -> None:
    server = an_installation()
    given = [posted(server, pem) for pem in PENDING]
    for dies_at, after, lost_at in lives:
        await lived(server, Fragile(Caller(server), dies_at, after, lost_at))
        check_ledger(server)
    await lived(server, Caller(server))
    check_ledger(server)
    assert [bool(certificate(server, each)) for each in given] == [True, False, False]
    assert len(entries(server)) == 1
    assert len(server.all(EVENTS)) == 2


# tests of two replicas that sign at the same time


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.booleans())
async def test_two_signers_at_once_hand_out_one_certificate_that_is_recorded(
    turns: list[bool], is_approved: bool
) -> None:
    server = an_installation()
    given = posted(server)
    if is_approved:
        given = await api_writes.approve(Caller(server), given, "by whoever led before")
    # Each coroutine stops before every call to the API server, so the test can interleave both.
    running = {turn: a_signer(server).reconcile(given) for turn in (False, True)}
    for turn in [*turns, *[False, True] * 20]:
        if turn not in running:
            continue
        try:
            running[turn].send(None)
        except (StopIteration, Overtaken):
            del running[turn]
        check_ledger(server)
    assert not running
    assert certificate(server, given)
    assert len(entries(server)) == 1


async def test_a_request_that_nobody_can_read_is_denied_and_keeps_no_other_waiting() -> None:
    server = an_installation()
    san = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3007a505a1030c0161")
    )
    first, second = posted(server, csr_pem(extensions=(san,))), posted(server)
    assert await a_signer(server).sweep() == 2
    assert condition(server, first)["reason"] == Reason.UNREADABLE
    assert certificate(server, second)
