"""Replicas of the operator, with kopf, against an API server over HTTPS, without a cluster."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from midstreamer.cluster import kubernetes_names
from midstreamer.cluster.api import Client
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain.errors import ConfigError, Refused
from midstreamer.domain.identity import Kind
from midstreamer.runtime.config import SecuritySettings, TelemetrySettings
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer.telemetry import metrics
from midstreamer_operator import handlers, process
from midstreamer_operator.leadership import Replica
from midstreamer_operator.pool_reconciler import Pools
from midstreamer_operator.resources import agentpools
from midstreamer_operator.settings import OperatorSettings
from midstreamer_operator.signals import Signals
from tests.support.api_over_https import Served, served
from tests.support.api_server import ApiServer, until
from tests.support.operator_builders import (
    DOMAIN,
    NAMESPACE,
    POLICY,
    RELEASE,
    UID,
    a_name,
    a_signer,
    csr_pem,
    posted,
    uri,
)

pytestmark = pytest.mark.integration

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
PASSWORD = f"{RELEASE}-postgres"
POD = f"{NAMESPACE}/agent-0"
WATCHED = 4
"""A replica watches 4 kinds of objects: signing requests, pools, Deployments and templates."""


@pytest.fixture(autouse=True)
def stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if the work of a replica does not stop in time.

    In production such a replica ends its process.
    """

    def stuck(status: int) -> None:
        raise AssertionError(
            f"the work of a replica did not stop in time: its process would end with {status}"
        )

    monkeypatch.setattr("midstreamer_operator.leadership.os._exit", stuck)


def settings_of(pod: str, **changes: Any) -> OperatorSettings:
    return OperatorSettings(
        **{
            "namespace": NAMESPACE,
            "release": RELEASE,
            "pod": pod,
            "uid": f"uid-of-{pod}",
            "accounts": dict(POLICY.kinds),
            "lease_s": 4.0,
            "renew_within_s": 1.5,
            "retry_s": 0.1,
            "security": SecuritySettings(trust_domain=DOMAIN),
            "telemetry": TelemetrySettings(listen=None),
            **changes,
        }
    )


class Running:
    """One replica of the operator, which runs in a task of the test."""

    def __init__(self, here: Served, client: Client, settings: OperatorSettings) -> None:
        self.signals = Signals()
        who = here.account("admin")
        self.replica = Replica(settings, client, who, self.signals)
        self.task = asyncio.create_task(self.replica.run())

    async def stop(self) -> None:
        self.signals.stop.set()
        async with asyncio.timeout(5):
            await self.task
        self.signals.release()


@asynccontextmanager
async def running(here: Served, pod: str = "operator-0", **changes: Any) -> AsyncIterator[Running]:
    async with Client(here.account("admin", name=pod)) as client:
        replica = Running(here, client, settings_of(pod, **changes))
        try:
            yield replica
        finally:
            await replica.stop()


@asynccontextmanager
async def a_cluster(directory: Path) -> AsyncIterator[Served]:
    server = ApiServer()
    server.pod(NAMESPACE, "agent-0", "mid-agent", uid=UID)
    async with served(server, directory) as here:
        yield here


def holder(here: Served) -> str:
    found = here.server.objects.get(LEASES, {}).get(f"{RELEASE}-operator")
    return str(found["spec"]["holderIdentity"]) if found else ""


@asynccontextmanager
async def a_pod(here: Served) -> AsyncIterator[ClusterIssuer]:
    async with Client(here.account(POD)) as client:
        yield ClusterIssuer(client, namespace=NAMESPACE, release=RELEASE)


async def test_a_pod_earns_its_certificate_from_a_running_operator(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here, running(here) as operator, a_pod(here) as issuer:
        source = RequestedSource(a_name(), issuer)
        async with asyncio.timeout(10):
            credentials = await source.obtain()
        assert credentials.identity == a_name()
        assert operator.replica.leads
        assert metrics.OPERATOR_LEADER._value.get() == 1.0
        assert operator.replica.serving_reasons() == []


async def test_events_are_listened_to_by_a_user_who_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    async with a_cluster(tmp_path) as here, running(here, sweep_s=3600.0) as operator:
        await until(lambda: here.server.calls.count(("WATCH", kubernetes_names.REQUESTS)) == 1)

        assert operator.replica.serving_reasons() == []


async def test_a_request_is_answered_when_its_event_comes_and_not_at_the_next_sweep(
    tmp_path: Path,
) -> None:
    async with (
        a_cluster(tmp_path) as here,
        running(here, sweep_s=3600.0),
        a_pod(here) as issuer,
    ):
        # At its start a replica lists the requests twice: its sweep does so, and kopf before it
        # begins to watch them.
        await until(lambda: here.server.calls.count(("GET", kubernetes_names.REQUESTS)) == 2)
        await until(lambda: here.watches == WATCHED)
        async with asyncio.timeout(5):
            assert (await issuer.sign(csr_pem(uri()), a_name())).chain


async def test_a_forged_request_is_denied_with_an_event(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here, running(here), a_pod(here) as issuer:
        with pytest.raises(Refused, match="the request is for the kind sync"):
            async with asyncio.timeout(10):
                await issuer.sign(csr_pem(uri("sync")), a_name(Kind.SYNC))
        (event,) = here.server.all(EVENTS)
        assert event["reason"] == "WrongKind"


async def test_what_waited_while_no_operator_ran_is_answered_when_one_does(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path) as here, a_pod(here) as issuer:
        task = asyncio.create_task(issuer.sign(csr_pem(uri()), a_name()))
        await until(lambda: here.watches == 1)
        async with running(here), asyncio.timeout(10):
            assert (await task).chain


async def test_two_are_ready_and_one_leads_and_the_other_takes_over_at_once(
    tmp_path: Path,
) -> None:
    async with (
        a_cluster(tmp_path) as here,
        running(here, "operator-1") as second,
        running(here, "operator-0") as first,
    ):
        await until(lambda: first.replica.leads or second.replica.leads)
        await until(lambda: not first.replica.serving_reasons())
        await until(lambda: not second.replica.serving_reasons())
        leader, standby = (first, second) if first.replica.leads else (second, first)
        assert not standby.replica.leads
        began_s = asyncio.get_running_loop().time()
        await leader.stop()
        await until(lambda: standby.replica.leads)
        assert asyncio.get_running_loop().time() - began_s < 1.0
        assert holder(here) == standby.replica.election.me


async def test_a_leader_that_finds_another_in_the_lease_stops_to_work(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here, running(here) as operator:
        await until(lambda: metrics.OPERATOR_LEADER._value.get() == 1.0)
        lease = here.server.objects[LEASES][f"{RELEASE}-operator"]
        spec = {**lease["spec"], "holderIdentity": "another", "leaseDurationSeconds": 60}
        here.server.put(LEASES, {"metadata": {"name": f"{RELEASE}-operator"}, "spec": spec})
        await until(lambda: metrics.OPERATOR_LEADER._value.get() == 0.0)
        await until(lambda: not _kopf_tasks())
        assert operator.replica.serving_reasons() == []
    assert holder(here) == "another"


@pytest.mark.parametrize("lacking", ["secrets", "configmaps", "certificatesigningrequests"])
async def test_an_operator_whose_role_lacks_a_right_says_so_and_tries_again(
    tmp_path: Path, lacking: str
) -> None:
    async with a_cluster(tmp_path) as here:
        here.server.allows = lambda user, verb, path: lacking not in path
        async with running(here, sweep_s=1.0) as operator:
            await until(lambda: lacking in "".join(operator.replica.serving_reasons()))
            here.server.allows = lambda user, verb, path: True
            await until(lambda: operator.replica.serving_reasons() == [])


async def test_the_leader_makes_the_password_of_the_database_again_when_it_is_gone(
    tmp_path: Path,
) -> None:
    async with (
        a_cluster(tmp_path) as here,
        running(here, "operator-0", sweep_s=1.0),
        running(here, "operator-1", sweep_s=1.0),
    ):
        await until(lambda: PASSWORD in here.server.objects.get(SECRETS, {}))
        first = here.server.objects[SECRETS].pop(PASSWORD)
        await until(lambda: PASSWORD in here.server.objects[SECRETS])
        assert here.server.objects[SECRETS][PASSWORD]["data"] != first["data"]


async def test_an_installation_with_a_database_elsewhere_gets_no_password(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here, running(here, own_database=False, sweep_s=1.0):
        await until(lambda: here.server.calls.count(("GET", kubernetes_names.REQUESTS)) > 2)
        assert PASSWORD not in here.server.objects[SECRETS]


async def test_an_operator_that_may_not_watch_says_so_and_sweeps_all_the_same(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path) as here, running(here) as operator:
        here.server.allows = lambda user, verb, path: (
            (verb, path) != ("WATCH", kubernetes_names.REQUESTS)
        )
        await until(lambda: "operator.events failed" in "".join(operator.replica.serving_reasons()))
        given = posted(here.server)
        await until(lambda: given_out(here.server, given))
        assert operator.replica.serving_reasons()


async def test_the_api_server_may_go_and_come_back(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here, running(here) as operator, a_pod(here) as issuer:
        await until(lambda: operator.replica.leads)
        here.breaks += ["500"] * 12
        await until(lambda: not here.breaks)
        async with asyncio.timeout(20):
            assert (await RequestedSource(a_name(), issuer).obtain()).identity == a_name()


async def test_nothing_of_kopf_is_left_however_often_its_end_is_asked_for(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here:
        signer, account = a_signer(here.server), here.account("admin")
        pools = Pools(signer.api, NAMESPACE, RELEASE, time.time)
        listening = asyncio.create_task(handlers.run(signer, pools, account, begun=lambda: None))
        await until(lambda: here.watches > 0)
        while not listening.done():
            listening.cancel()
            await asyncio.sleep(0)
        assert listening.cancelled()
        assert not {name for name in _tasks() if "watcher" in name or "activities" in name}


async def test_a_signal_ends_the_process_and_gives_the_lease_back(tmp_path: Path) -> None:
    async with a_cluster(tmp_path) as here:
        who = here.account("admin")
        task = asyncio.create_task(process.run(settings_of("operator-0"), who))
        await until(_kopf_tasks)
        await until(lambda: here.watches > 0)
        began_s = asyncio.get_running_loop().time()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
        assert asyncio.get_running_loop().time() - began_s < 1.0
        assert holder(here) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pod": ""}, "operator.pod is not set; in the pod template, set the environment"),
        ({"uid": ""}, "operator.uid is not set"),
        ({"accounts": {}}, "operator.accounts is empty"),
    ],
)
async def test_what_was_not_set_is_named_with_the_way_out(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        await process.run(settings_of(**{"pod": "operator-0", **changes}))


def given_out(server: ApiServer, given: dict[str, Any]) -> object:
    found = server.objects[kubernetes_names.REQUESTS][given["metadata"]["name"]]
    return found["status"].get("certificate")


def _tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


def _kopf_tasks() -> set[str]:
    return {name for name in _tasks() if "watcher" in name or "operator." in name}


def test_the_signer_of_the_tests_is_that_of_the_settings() -> None:
    assert settings_of("operator-0").policy.signer == kubernetes_names.signer(NAMESPACE, RELEASE)


async def test_a_pool_is_seen_when_its_event_comes_and_made_into_a_deployment(
    tmp_path: Path,
) -> None:
    pools, name = agentpools.path(NAMESPACE), f"{RELEASE}-agent"
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    async with a_cluster(tmp_path) as here, running(here, sweep_s=3600.0) as operator:
        here.server.put(
            f"/api/v1/namespaces/{NAMESPACE}/podtemplates",
            {"metadata": {"name": name}, "template": template},
        )
        await until(lambda: here.watches == WATCHED)
        here.server.put(pools, {"metadata": {"name": name}, "spec": {"fleet": RELEASE}})

        await until(lambda: here.server.all(deployments))

        assert operator.replica.serving_reasons() == []
        (deployment,) = here.server.all(deployments)
        assert deployment["spec"]["replicas"] == 2


async def test_an_operator_that_may_not_read_pools_says_so_and_signs_all_the_same(
    tmp_path: Path,
) -> None:
    async with a_cluster(tmp_path) as here, running(here) as operator, a_pod(here) as issuer:
        here.server.allows = lambda user, verb, path: "agentpools" not in path
        source = RequestedSource(a_name(), issuer)
        async with asyncio.timeout(30):
            credentials = await source.obtain()
        await until(
            lambda: any("pools of agents" in why for why in operator.replica.serving_reasons())
        )

        assert credentials.identity == a_name()
