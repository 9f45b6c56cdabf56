"""Two fleets of the same name in two namespaces of a cluster do not affect each other.

Both fleets are small and under load.  A test that disturbs one fleet makes a report on the other.
In this report, the time of the disturbance is an event, during which no request to the other fleet
may take longer than FELT_S_MAX seconds.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from midstreamer.cluster import kubernetes_names
from midstreamer.telemetry import metrics
from midstreamer_operator.api_writes import COMPONENT as OPERATOR
from midstreamer_operator.resources import authorities
from tests.cluster import commands_here, load_judgement, releases
from tests.cluster.conftest import a_namespace
from tests.cluster.load_judgement import Event, Kind
from tests.cluster.outside_trials import Trial
from tests.cluster.releases import COMPONENT, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

Fleets = tuple[Release, Release]
RATE = ("--matches-per-s", "20", "--appends-per-s", "10")
LIVES_S = (600, 690)
"""How long the certificates of each of the two fleets are valid, in seconds.

Pods renew a certificate after two thirds of this time. The times differ, so that the two fleets do
not renew at once.
"""
FELT_S_MAX = 3.0
"""The greatest permitted latency of requests to one fleet while the other fleet is disturbed."""
SHORT_S = 10.0
LOOK_S = 3.0
"""Seconds between two looks at the pods; a look starts several processes, which slow the load."""


def small(life_s: int) -> dict[str, Any]:
    """Return the chart's values: one pod of each kind, certificates valid for `life_s` seconds."""
    return {
        "coordinator": {"replicas": 1, "service": {"type": "NodePort"}},
        "sync": {"replicas": 1},
        "agent": {"replicas": 1},
        "operator": {"replicas": 1, "certificateLifeSeconds": life_s},
    }


OWNERS = {
    "agent": "deployment/mid-agent",
    "coordinator": "statefulset/mid-coordinator",
    "sync": "deployment/mid-sync",
    "operator": "deployment/mid-operator",
    "postgres": "statefulset/mid-postgres",
}
BOTH_ORDERS = pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["one", "other"])


@pytest.fixture(scope="module")
def fleets() -> Iterator[Fleets]:
    """Install both fleets and wait until they are ready."""
    with ExitStack() as ends:
        installed = []
        for life_s in LIVES_S:
            release = Release(ends.enter_context(a_namespace()), values=small(life_s))
            release.install()
            ends.callback(release.uninstall)
            release.wait_ready()
            installed.append(release)
        yield installed[0], installed[1]


def trial(release: Release, folder: Path, what: str) -> Trial:
    """Return a trial of a fleet, with a folder of its own for its files."""
    place = folder / f"{release.namespace}-{what}"
    place.mkdir()
    return Trial(release, place)


def for_a_while(one: Trial) -> None:
    """Load a fleet for `SHORT_S` seconds without disturbances."""
    with one.load(*RATE, "--for-s", f"{SHORT_S:g}"):
        time.sleep(SHORT_S)


@contextmanager
def felt_by(one: Trial, name: str) -> Iterator[None]:
    """Record the time of the block as an event, for the report of a trial."""
    from_s = time.monotonic()
    yield
    happened(one, Event(name, Kind.DELETION, from_s, time.monotonic()))


def happened(one: Trial, event: Event) -> None:
    """Write an event to the events file of a trial, for its report."""
    with one.events_file.open("a", encoding="utf-8") as file:
        file.write(load_judgement.line(event))


# --- certificates ---------------------------------------------------------------------------------


def ledger(release: Release) -> list[dict[str, str]]:
    """Return the ledger entries of all certificates that a fleet's operator has issued."""
    chosen = ("configmaps", "-l", f"midstreamer.dev/ledger={release.name}")
    return [each["data"] for each in release.kubernetes.get(*chosen)["items"]]


def not_renewed(release: Release) -> list[str]:
    """Return the names of pods that still use their first certificate, not a renewed one."""
    given = ledger(release)
    lines = []
    for pod in release.pods():
        meta = pod["metadata"]
        if meta["labels"][COMPONENT] != "operator":
            ends = [int(each["ends"]) for each in given if each["id"].endswith(f"/{meta['uid']}")]
            if len(ends) < 2 or used_until(release, meta["name"]) != max(ends):
                lines.append(meta["name"])
    return lines


def used_until(release: Release, pod: str) -> int:
    """Return when a pod's current certificate expires, in seconds since 1970."""
    path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}:9090/proxy/metrics"
    shown = metrics.read(release.kubernetes("get", "--raw", path))
    return int(shown[metrics.name(metrics.CERTIFICATE_EXPIRY_S)])


def rotation(release: Release) -> tuple[float, float]:
    """Wait until every pod has renewed its certificate.

    Return two times of the monotonic clock: when the first pod had renewed its certificate, and
    when the last pod had.
    """
    total = len(not_renewed(release))

    def look() -> int:
        time.sleep(LOOK_S)
        return len(not_renewed(release))

    def some(left: int) -> bool:
        return left < total

    def none(left: int) -> bool:
        return left == 0

    times = []
    for what, enough in (("a pod renews", some), ("every pod has renewed", none)):
        commands_here.eventually(
            f"{release.namespace}: {what}",
            look,
            enough,
            timeout_s=max(LIVES_S),
        )
        times.append(time.monotonic())
    return times[0], times[1]


def test_neither_fleet_feels_that_the_other_renews_its_certificates(
    fleets: Fleets, tmp_path: Path
) -> None:
    trials = [trial(fleet, tmp_path, "rotates") for fleet in fleets]

    with ExitStack() as loads:
        for each in trials:
            loads.enter_context(each.load(*RATE))
        with ThreadPoolExecutor(len(fleets)) as watching:
            times = list(watching.map(rotation, fleets))
        time.sleep(SHORT_S)

    for each, (from_s, to_s) in zip(trials, reversed(times), strict=True):
        happened(each, Event("the other renews", Kind.DELETION, from_s - SHORT_S, to_s))
    for each in trials:
        each.report(FELT_S_MAX)


# --- restarts -------------------------------------------------------------------------------------


def uids(release: Release, kind: str) -> set[str]:
    """Return the uids of the pods of a component."""
    return {str(pod["metadata"]["uid"]) for pod in release.pods(kind)}


@BOTH_ORDERS
def test_a_fleet_does_not_feel_that_every_kind_of_the_other_restarts(
    fleets: Fleets, order: Sequence[int], tmp_path: Path
) -> None:
    one, other = (fleets[at] for at in order)
    own, watched = trial(one, tmp_path, "restarts"), trial(other, tmp_path, "watches")

    with own.load(*RATE), watched.load(*RATE):
        for kind, owner in OWNERS.items():
            before = uids(one, kind)
            with (
                felt_by(watched, f"{kind} of the other restarts"),
                felt_by(own, f"{kind} restarts"),
            ):
                one.kubernetes("rollout", "restart", owner)
                one.kubernetes("rollout", "status", owner, "--timeout=90s")
                one.wait_ready()
            assert not before & uids(one, kind)

    watched.report(FELT_S_MAX)
    own.report(Kind.CRASH.limit_s)


# --- gone and back --------------------------------------------------------------------------------


@BOTH_ORDERS
def test_a_fleet_that_is_uninstalled_and_installed_finds_its_data_and_the_other_feels_nothing(
    fleets: Fleets, order: Sequence[int], tmp_path: Path
) -> None:
    one, other = (fleets[at] for at in order)
    own, watched = trial(one, tmp_path, "before"), trial(other, tmp_path, "watches")
    authority = _authority(one)

    with watched.load(*RATE):
        for_a_while(own)
        with felt_by(watched, "the other is uninstalled"):
            one.take_away()
            commands_here.until(
                "the uninstalled fleet's pods are gone", lambda: not _pods(one), timeout_s=90.0
            )
        with felt_by(watched, "the other is installed again"):
            one.put()
            one.wait_ready()

    watched.report(FELT_S_MAX)
    own.report()  # raises if acknowledged data is not stored
    assert _authority(one) == authority
    after = trial(one, tmp_path, "after")
    for_a_while(after)
    after.report()


def test_a_fleet_of_another_name_works_in_a_namespace_where_one_was(
    fleets: Fleets, tmp_path: Path
) -> None:
    one, other = fleets
    own, watched = trial(one, tmp_path, "before"), trial(other, tmp_path, "watches")
    for_a_while(own)
    again = Release(one.kubernetes, "again", one.values)

    with watched.load(*RATE), felt_by(watched, "the other is there under another name"):
        one.take_away()
        again.install()
        again.wait_ready()
        renamed = trial(again, tmp_path, "renamed")
        for_a_while(renamed)
        renamed.report()
        again.uninstall()
        one.put()
        one.wait_ready()

    watched.report(FELT_S_MAX)
    own.report()


def _pods(release: Release) -> list[Any]:
    found: list[Any] = release.kubernetes.get("pods")["items"]
    return found


# --- who signed -----------------------------------------------------------------------------------


def _authority(release: Release) -> x509.Certificate:
    secret = release.kubernetes.get(f"secret/{authorities.secret_name(release.name)}")
    return authorities.authority(secret, releases.TRUST_DOMAIN).certificate


def test_no_request_of_one_fleet_was_answered_by_the_operator_of_the_other(
    fleets: Fleets,
) -> None:
    for one, other in (fleets, fleets[::-1]):
        authority, signer = _authority(one), kubernetes_names.signer(one.namespace, one.name)
        mark = authority.fingerprint(hashes.SHA256()).hex()
        given = ledger(one)
        names = {each["request"] for each in given}
        asked = [
            each
            for each in one.kubernetes.get("certificatesigningrequests")["items"]
            if each["spec"]["signerName"] == signer
        ]

        commands_here.say(f"{one.namespace}: {len(asked)} requests, {len(given)} certificates")
        assert {each["authority"] for each in given} == {mark}
        assert all(f"/{one.namespace}/" in each["id"] for each in given)
        assert not names & {each["request"] for each in ledger(other)}
        assert asked
        for each in asked:
            _check(each, one, authority)
        assert _told_by_operators(one) == []
        account = f"system:serviceaccount:{other.namespace}:{other.name}-operator"
        assert not _may(one, account, "approve", signer)
        assert not _may(one, account, "sign", signer)
        assert _may(one, account.replace(other.namespace, one.namespace), "sign", signer)


def _check(request: dict[str, Any], release: Release, authority: x509.Certificate) -> None:
    """Check who made a signing request, and that `authority` issued its certificate.

    A service account in the release's namespace must have made it.
    """
    assert request["spec"]["username"].startswith(f"system:serviceaccount:{release.namespace}:")
    certificate = base64.b64decode(request["status"]["certificate"])
    leaf = x509.load_pem_x509_certificates(certificate)[0]
    leaf.verify_directly_issued_by(authority)


def _told_by_operators(release: Release) -> list[str]:
    """Return the messages of Events that operators wrote in the release's namespace."""
    found = release.kubernetes.get("events")["items"]
    return [each["message"] for each in found if each["source"].get("component") == OPERATOR]


def _may(release: Release, account: str, verb: str, signer: str) -> bool:
    attributes = {"group": "certificates.k8s.io", "resource": "signers", "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": {**attributes, "name": signer}},
    }
    answer = release.kubernetes("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])
