"""`midstreamer-k8s`: request a certificate, show the status, purge a release."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from midstreamer.client import certificates
from midstreamer.cluster import kubernetes_names, pod_reports
from midstreamer.cluster.api import Api
from midstreamer.domain.errors import BadInput, ConfigError, DeadlineExceeded, Refused
from midstreamer.security import files
from midstreamer.security.credentials_in_files import FileSource
from midstreamer_operator import authority, database_password
from midstreamer_operator.k8s import (
    cli,
    installation_status,
    kubectl,
    purge_release,
    request_certificate,
    status_lines,
)
from midstreamer_operator.k8s.status_lines import Found
from midstreamer_operator.resources import agentpools, deployments
from midstreamer_operator.resources.certificate_ledger import Entry
from tests.support.api_server import ApiServer, Caller, User
from tests.support.operator_builders import (
    DOMAIN,
    NAMESPACE,
    POLICY,
    RELEASE,
    UID,
    an_installation,
    signing_now,
)

NOW_S = 1_800_000_000.0
SPACE = f"/api/v1/namespaces/{NAMESPACE}"
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"


# tests of `midstreamer-k8s certs request`, by which a person gets a certificate


def jane(server: ApiServer, *names: str) -> Api:
    server.uses = {("jane", NAMESPACE, name) for name in names}
    return Caller(server, server.users["jane"])


async def asked(api: Api, name: str = "desk-1", timeout_s: float = 10.0, **more: Any) -> Any:
    me = request_certificate.named(
        name, await request_certificate.trust_domain(api, NAMESPACE, RELEASE)
    )
    say = more.get("say", lambda _: None)
    return await request_certificate.obtained(
        api, me, NAMESPACE, RELEASE, timeout_s=timeout_s, say=say
    )


async def test_a_certificate_that_was_asked_for_is_one_that_the_sdk_takes(tmp_path: Path) -> None:
    server = an_installation()
    async with signing_now(server):
        own = await asked(jane(server, "desk-1"))
    path = request_certificate.kept(own, tmp_path / "certs")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    who = certificates.find(tmp_path / "certs", "client/desk-1")
    manager = files.CertificateManager(tmp_path / "certs", who)
    manager.load_or_generate()
    assert FileSource(manager, None).current == own
    assert "PRIVATE KEY" not in str(server.objects)


async def test_a_second_certificate_replaces_the_first_and_trusts_both_authorities(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        server = an_installation()
        async with signing_now(server):
            request_certificate.kept(await asked(jane(server, "desk-1")), tmp_path)
    assert len(files.certificates_in(files.trust_path(tmp_path))) == 2


async def test_a_name_that_one_may_not_use_is_refused_with_the_right_that_is_missing() -> None:
    server = an_installation()
    async with signing_now(server):
        with pytest.raises(Refused, match="'jane' may not be client/desk-1: a role in namespace"):
            await asked(jane(server, "desk-2"))


async def test_an_operator_that_is_away_is_told_while_one_waits_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_certificate, "LOOK_S", 0.05)
    server = an_installation()
    async with signing_now(server):
        pass
    reports: list[str] = []
    with pytest.raises(DeadlineExceeded, match=r"is the operator of fleet/mid running\?"):
        await asked(jane(server, "desk-1"), timeout_s=0.3, say=reports.append)
    (line,) = reports
    assert "neither approved nor denied yet" in line
    assert server.all(kubernetes_names.REQUESTS) == []


async def test_an_installation_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="there is no ConfigMap fleet/mid-trust: no installation"):
        await request_certificate.trust_domain(Caller(ApiServer()), NAMESPACE, RELEASE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["certs", "request", "app/shop-0/uid"], "has several parts, as only names of pods have"),
        (["certs", "request", "desk 1"], "'desk 1' in identity client/'desk 1'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_asked(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_name_becomes_part_of_a_requests_name_whatever_its_letters() -> None:
    assert kubernetes_names.request_prefix("fleet", "Desk_1.x") == "fleet.desk-1-x-"


# tests of `midstreamer-k8s status`, which shows pods, pools and certificates


def a_pod(name: str, component: str, *, ready: bool = False, uid: str = "", **status: Any) -> Any:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    labels = {deployments.COMPONENT: component, deployments.INSTANCE: RELEASE}
    return {
        "metadata": {"name": name, "uid": uid or name, "labels": labels},
        "status": {"conditions": conditions, **status},
    }


def an_event(reason: str, message: str, about: str, at: int = 0, kind: str = "Pod") -> Any:
    return {
        "metadata": {"name": f"{about}.{reason}.{at}"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-01-01T00:00:{at:02d}Z",
        "involvedObject": {"kind": kind, "name": about, "uid": about},
    }


def own_event(reason: str, message: str, about: str, at: int = 0) -> Any:
    """Return an Event that a pod wrote about itself."""
    source = {"source": {"component": status_lines.OWN}}
    warning = reason != pod_reports.RECOVERED
    event = an_event(reason, message, about, at)
    return {**event, **source, "type": "Warning" if warning else "Normal"}


def an_owner(name: str, component: str, replicas: int) -> Any:
    labels = {deployments.COMPONENT: component, deployments.INSTANCE: RELEASE}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"replicas": replicas}}


def a_pool(
    name: str, replicas: int, reason: str = "", message: str = "", fleet: str = RELEASE
) -> Any:
    status = "False" if reason else "True"
    ready = {"type": "Ready", "status": status, "reason": reason, "message": message}
    spec = {"fleet": fleet, "replicas": replicas}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [ready]}}


def an_entry(uri: str, ends_s: float, serial: str = "1") -> Entry:
    return Entry(serial, "", uri, "", f"{ends_s:.0f}", "r", "")


WAITING = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
PULL = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
CRASH = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "first\nno AVX2 here"}},
}
UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: insufficient cpu.",
}
SERVING_NOT = an_event("Unhealthy", "Readiness probe failed: 503", "p", 9)
WHYS: list[tuple[str, dict[str, Any], list[Any], str]] = [
    (
        "no node",
        {"conditions": [UNSCHEDULED]},
        [],
        "Unschedulable: 0/1 nodes are available: insufficient cpu.",
    ),
    (
        "a missing secret",
        WAITING,
        [an_event("FailedMount", 'secret "mid-postgres" not found', "p")],
        'FailedMount: secret "mid-postgres" not found',
    ),
    (
        "no image",
        {"containerStatuses": [{"state": {"waiting": PULL}}]},
        [an_event("BackOff", "Back-off", "p")],
        'ImagePullBackOff: Back-off pulling image "x"',
    ),
    (
        "a crash",
        {"containerStatuses": [CRASH]},
        [an_event("WaitingForCertificate", "earlier", "p")],
        "CrashLoopBackOff: no AVX2 here",
    ),
    (
        "a certificate",
        {"containerStatuses": [{"state": {"running": {}}}]},
        [own_event("WaitingForCertificate", "is the operator running?", "p", 1), SERVING_NOT],
        "WaitingForCertificate: is the operator running?",
    ),
    (
        "what is over since it runs",
        {"containerStatuses": [{"state": {"running": {}}}]},
        [an_event("FailedMount", "x", "p", 5), own_event("NotReady", "store: away", "p", 2)],
        "NotReady: store: away",
    ),
    (
        "a symptom alone",
        {"containerStatuses": [{"state": {"running": {}}}]},
        [SERVING_NOT],
        "Unhealthy: Readiness probe failed: 503; its /readyz says why",
    ),
    (
        "what was over before the container started",
        {"containerStatuses": [{"state": {"running": {"startedAt": "2100-01-01T00:00:00Z"}}}]},
        [an_event("FailedMount", 'secret "mid-postgres" not found', "p")],
        "starting",
    ),
    ("another pod's event", WAITING, [an_event("FailedMount", "x", "q")], "starting"),
]


@pytest.mark.parametrize(("name", "status", "events", "message"), WHYS, ids=[w[0] for w in WHYS])
def test_a_pod_that_is_not_ready_says_why_in_one_line(
    name: str, status: dict[str, Any], events: list[Any], message: str
) -> None:
    assert status_lines.why(a_pod("p", "sync", **status), events) == message


def test_a_ready_pod_says_what_it_lacks_until_it_takes_that_back() -> None:
    pod = a_pod("p", "sync", ready=True)
    lacking = own_event("Incomplete", "store: away", "p", 1)

    assert status_lines.lacks(pod, [lacking]) == "Incomplete: store: away"
    assert status_lines.lacks(pod, [lacking, own_event("Recovered", "no longer", "p", 2)]) == ""
    assert status_lines.lacks(pod, [own_event("NotReady", "x", "p", 1)]) == ""
    assert status_lines.lacks(a_pod("q", "sync", ready=True), [lacking]) == ""


def test_a_pod_of_a_test_that_passed_is_not_waited_for() -> None:
    found = Found(NAMESPACE, RELEASE, pods=[a_pod("mid-test", "test", phase="Succeeded")])
    assert "mid-test" not in "\n".join(status_lines.shown(found, NOW_S))


def test_without_the_right_to_see_pods_the_status_does_not_say_uninstalled() -> None:
    lines = status_lines.shown(Found(NAMESPACE, RELEASE, notes=["GET x: 403"]), NOW_S)
    assert (
        "no pod is visible; you may lack the right to see pods: refusals are listed below" in lines
    )
    assert not any("uninstalled" in line for line in lines)


def test_a_screen_shows_counts_reasons_and_the_newest_certificate_of_each() -> None:
    def uri(kind: str, rest: str) -> str:
        return f"spiffe://{DOMAIN}/{kind}/{rest}"

    found = Found(
        NAMESPACE,
        RELEASE,
        pods=[
            a_pod("mid-sync-1", "sync", ready=True, uid=UID),
            a_pod("mid-agent-1", "agent", containerStatuses=[]),
        ],
        owners=[an_owner("mid-sync", "sync", 2)],
        pools=[a_pool("mid-agent", 1), a_pool("mid-agent-spot", 2, "PodsRefused", "quota")],
        events=[an_event("FailedCreate", "exceeded quota", "mid-sync-5d", 0, "ReplicaSet")],
        entries=[
            an_entry(uri("sync", f"{NAMESPACE}/mid-sync-1/{UID}"), NOW_S + 7200, "2"),
            an_entry(uri("sync", f"{NAMESPACE}/mid-sync-1/{UID}"), NOW_S + 60, "1"),
            an_entry(uri("agent", f"{NAMESPACE}/gone/{UID[:-1]}0"), NOW_S + 60),
            an_entry(uri("client", f"app/shop-0/{UID}"), NOW_S + 90_000),
            an_entry(uri("client", "desk-1"), NOW_S - 5),
        ],
        notes=["GET x: the API server answers 403"],
    )
    assert status_lines.shown(found, NOW_S) == [
        "fleet/mid",
        "",
        "pods          ready",
        "sync          1 of 2",
        "agent         0 of 3",
        "",
        "waiting",
        "  mid-agent-1: starting",
        "  pool mid-agent-spot: PodsRefused: quota",
        "  sync: 1 of 2 pods do not exist: FailedCreate: exceeded quota",
        "",
        "certificates: 2 valid",
        "  client/app/shop-0  expires in 25 h 00 min",
        "  sync/mid-sync-1    expires in 2 h 00 min",
        "  1 valid, of deleted pods",
        "  1 expired",
        "",
        "not shown",
        "  GET x: the API server answers 403",
    ]


async def test_what_may_not_be_read_is_a_note_and_the_rest_is_shown() -> None:
    def allows(user: User, verb: str, path: str) -> bool:
        return not path.endswith(("events", "configmaps"))

    server = ApiServer(allows)
    server.put(f"{SPACE}/pods", a_pod("mid-sync-1", "sync", ready=True))
    server.put(f"{SPACE}/pods", {"metadata": {"name": "stranger"}})
    server.put(f"{APPS}/deployments", an_owner("mid-sync", "sync", 1))
    of_a_pool = an_owner("mid-agent", "agent", 2)
    of_a_pool["metadata"]["ownerReferences"] = [{"kind": "AgentPool", "name": "mid-agent"}]
    server.put(f"{APPS}/deployments", of_a_pool)
    server.put(agentpools.path(NAMESPACE), a_pool("mid-agent", 2))
    server.put(agentpools.path(NAMESPACE), a_pool("another-agent", 2, fleet="another"))
    found = await installation_status.found(Caller(server), NAMESPACE, RELEASE)
    assert [pod["metadata"]["name"] for pod in found.pods] == ["mid-sync-1"]
    assert [owner["metadata"]["name"] for owner in found.owners] == ["mid-sync"]
    assert [owner["metadata"]["name"] for owner in found.pools] == ["mid-agent"]
    assert len(found.notes) == 2
    assert all("must allow it" in note for note in found.notes)


# tests of `midstreamer-k8s purge`, which deletes what an uninstalled release leaves


async def an_uninstalled_release() -> ApiServer:
    """Return a server with the objects that RELEASE and "other" left when they were uninstalled."""
    server = ApiServer()
    api = Caller(server)
    for release in (RELEASE, "other"):
        policy = POLICY.__class__(DOMAIN, NAMESPACE, release, {}, {})
        opened = await authority.opened(api, policy, NOW_S)
        await authority.published(api, policy, opened)
        await database_password.provided(api, policy)
        name = f"data-{release}-postgres-0"
        labels = {deployments.INSTANCE: release}
        server.put(
            f"{SPACE}/persistentvolumeclaims", {"metadata": {"name": name, "labels": labels}}
        )
        label = {"midstreamer.dev/ledger": release}
        entry = {"metadata": {"name": f"{release}-issued-1", "labels": label}}
        server.put(f"{SPACE}/configmaps", entry)
    return server


async def test_a_purge_removes_all_of_one_release_and_nothing_of_another() -> None:
    server = await an_uninstalled_release()
    api = Caller(server)
    found = await purge_release.left(api, NAMESPACE, RELEASE)
    for each in found:
        await purge_release.remove(api, each)
    names = {name for objects in server.objects.values() for name in objects}
    assert names == {
        "other-authority", "other-postgres", "other-trust", "other-issued-1",
        "data-other-postgres-0",
    }  # fmt: skip
    assert len(found) == 5
    assert await purge_release.left(api, NAMESPACE, RELEASE) == []
    await purge_release.remove(api, found[0])


async def test_a_release_that_runs_is_not_purged() -> None:
    server = await an_uninstalled_release()
    server.put(f"{SPACE}/pods", a_pod("mid-sync-1", "sync", ready=True))
    with pytest.raises(BadInput, match="helm uninstall mid --namespace fleet --wait"):
        await purge_release.left(Caller(server), NAMESPACE, RELEASE)


async def test_a_pod_that_helm_test_left_is_purged_with_the_rest() -> None:
    server = await an_uninstalled_release()
    server.put(f"{SPACE}/pods", a_pod("mid-test", "test", phase="Failed"))
    found = await purge_release.left(Caller(server), NAMESPACE, RELEASE)
    assert (found[0].what, found[0].path) == (
        "Pod mid-test: it has ended", f"{SPACE}/pods/mid-test",
    )  # fmt: skip


# tests with `kubectl proxy`, which gives access to the API server


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set PATH to one empty folder and return it. A test adds the programs that it needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def a_kubectl(programs: Path, script: str) -> None:
    path = programs / "kubectl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_kubectl_it_says_what_to_install(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(["status"]) == 2
    assert "kubectl is not on the PATH: install it" in capsys.readouterr().err


async def test_a_kubectl_that_ends_at_once_is_reported(programs: Path) -> None:
    a_kubectl(programs, "exit 1")
    with pytest.raises(ConfigError, match="does `kubectl version` work"):
        async with kubectl.api():
            pass
    with pytest.raises(ConfigError, match="set KUBECONFIG, or give --context"):
        await kubectl.namespace("nowhere")


async def test_the_namespace_is_that_of_the_context(programs: Path) -> None:
    a_kubectl(programs, 'case "$1" in --context=one) echo fleet;; esac')
    assert await kubectl.namespace("one") == "fleet"
    assert await kubectl.namespace() == "default"


async def test_the_api_is_asked_through_a_socket_that_nobody_else_reaches(
    programs: Path, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Host"]))
        assert "Authorization" not in request.headers
        return web.json_response({"message": "no"}, status=403)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    real = tmp_path / "api"
    await web.UnixSite(runner, str(real)).start()
    log = tmp_path / "places"
    a_kubectl(
        programs,
        f'place="${{2#--unix-socket=}}"; echo "$place" > {log}; /bin/ln -s {real} "$place"\n'
        "echo Starting to serve; exec /bin/sleep 60",
    )
    try:
        async with kubectl.api() as api:
            place = Path(log.read_text().strip())
            assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
            with pytest.raises(Refused, match="the role of this user must allow it"):
                (await api.ask("GET", f"{SPACE}/pods")).checked()
        assert seen == [(f"{SPACE}/pods", "localhost")]
        assert not place.parent.exists()
    finally:
        await runner.cleanup()


def test_its_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--version"]) == 0
    assert "midstreamer-k8s 0." in capsys.readouterr().out
