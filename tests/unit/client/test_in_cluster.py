"""A client in a pod requests its own certificate, or reports why it gets none."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest

from midstreamer.client import in_cluster
from midstreamer.client.api import AsyncClient
from midstreamer.client.blocking import Client
from midstreamer.cluster.service_account import HOST, PORT, Account
from midstreamer.domain.errors import BadInput, ConfigError, DeadlineExceeded
from midstreamer.security.requested_credentials import RequestedSource
from tests.support.api_over_https import Served, served
from tests.support.api_server import a_pod_user
from tests.support.operator_builders import (
    CLIENTS,
    DOMAIN,
    LABEL,
    NAMESPACE,
    RELEASE,
    UID,
    an_installation,
    signing_now,
)


def a_token(**pod: str) -> str:
    """Return a service account token with the claims that the client reads."""
    claims = json.dumps({"kubernetes.io": {"namespace": CLIENTS, "pod": pod}}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


TOKEN = a_token(name="shop-0", uid=UID)


def an_account(here: Served) -> Account:
    here.server.users[TOKEN] = a_pod_user(CLIENTS, "default", "shop-0", UID)
    return here.account(TOKEN, namespace=CLIENTS, name="shop-0")


def a_source(who: Account) -> RequestedSource:
    return in_cluster.source(NAMESPACE, RELEASE, DOMAIN, who)


async def why(source: RequestedSource, deadline_s: float = 1.0) -> str:
    """Return the error of a client that still has no certificate at its deadline."""
    client = AsyncClient.connect("127.0.0.1:1", credentials=source, deadline_s=deadline_s)
    with pytest.raises(DeadlineExceeded) as raised:
        await client.__aenter__()
    return raised.value.message


async def test_a_pod_of_a_labelled_namespace_earns_its_certificate(tmp_path: Path) -> None:
    async with served(an_installation(), tmp_path) as here, signing_now(here.server):
        source = a_source(an_account(here))
        async with AsyncClient.connect("127.0.0.1:1", credentials=source, deadline_s=10.0):
            assert source.current.identity.name == f"client/{CLIENTS}/shop-0/{UID}"
    assert "PRIVATE KEY" not in str(here.server.objects)


async def test_a_denied_pod_says_which_label_its_namespace_lacks(tmp_path: Path) -> None:
    server = an_installation()
    server.namespace(CLIENTS)
    async with served(server, tmp_path) as here, signing_now(server):
        reason = await why(a_source(an_account(here)))
    assert f"no certificate for client/{CLIENTS}/shop-0/{UID} within deadline_s = 1 s" in reason
    assert f"to let its pods in: kubectl label namespace {CLIENTS} {LABEL}=client" in reason


async def test_a_pod_whose_operator_is_away_says_so(tmp_path: Path) -> None:
    async with served(an_installation(), tmp_path) as here:
        reason = await why(a_source(an_account(here)))
    assert "was neither approved nor denied yet; is the operator of fleet/mid running?" in reason


async def test_a_pod_that_may_not_ask_says_what_its_role_lacks(tmp_path: Path) -> None:
    server = an_installation()
    server.allows = lambda user, verb, path: verb != "POST"
    async with served(server, tmp_path) as here:
        reason = await why(a_source(an_account(here)))
    assert "the role of this service account must allow it" in reason


def test_outside_of_a_pod_it_says_so_at_once_and_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (HOST, PORT):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="this is no pod with a service account"):
        AsyncClient.in_cluster(NAMESPACE, RELEASE)
    with pytest.raises(ConfigError, match="this is no pod with a service account"):
        Client.in_cluster(NAMESPACE, RELEASE)
    assert not [thread for thread in threading.enumerate() if thread.name == "midstreamer.client"]


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "e30.e30.e30", a_token(name="shop-0")])
def test_a_token_of_no_pod_is_named_and_not_shown(token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    who = Account("127.0.0.1", 1, CLIENTS, tmp_path)
    with pytest.raises(ConfigError, match="token is not bound to a pod") as raised:
        a_source(who)
    assert token not in raised.value.message


@pytest.mark.parametrize(("namespace", "release"), [("", "mid"), ("fleet", "a/b"), ("Fleet", "m")])
def test_a_name_that_helm_takes_not_is_refused(namespace: str, release: str) -> None:
    with pytest.raises(BadInput, match="that was passed to Helm"):
        AsyncClient.in_cluster(namespace, release)


def test_coordinators_are_found_by_the_name_of_their_headless_service() -> None:
    assert in_cluster.address("fleet", "mid", 7400) == "mid-coordinator.fleet.svc:7400"
