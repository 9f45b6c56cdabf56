"""Tests of `tests.cluster.disturb`, on a fake installation.

They check the order of the disturbances, when an installation counts as recovered, and which events
are recorded.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import api_requests, commands_here, disturb, disturbance_plan, load_judgement
from tests.cluster.api_requests import Api, Away
from tests.cluster.disturb import Disturber, InCluster
from tests.cluster.disturbance_plan import Act, Pod, Step
from tests.cluster.load_judgement import Kind
from tests.cluster.releases import COMPONENT

COUNTS = {"agent": 2, "coordinator": 1, "sync": 1, "operator": 1, "postgres": 1}


def a_pod(name: str, created: str = "2026-01-01T00:00:00Z", **other: Any) -> Pod:
    pod = Pod(name, name.partition("-")[0], f"uid of {name}", created, True, False, frozenset())
    return replace(pod, running=frozenset({f"{name}/1"}), **other)


# --- the plan


def test_each_pod_is_deleted_then_killed_then_the_database_then_the_processes() -> None:
    steps = disturbance_plan.plan(COUNTS)

    assert [f"{step.act} {step.target} {step.ordinal}" for step in steps] == [
        *("delete agent 0", "delete agent 1", "delete coordinator 0"),
        *("delete sync 0", "delete operator 0"),
        *("kill agent 0", "kill agent 1", "kill coordinator 0", "kill sync 0", "kill operator 0"),
        *("delete postgres 0", "kill postgres 0"),
        *("restart node-0-containerd 0", "restart node-0-kubelet 0", "restart kube-apiserver 0"),
    ]


def test_some_acts_of_some_components_are_planned_alone() -> None:
    steps = disturbance_plan.plan(COUNTS, acts=[Act.KILL], components=["sync"])

    assert steps == [Step(Act.KILL, "sync", 0)]


def test_a_component_without_pods_is_refused_with_what_there_is() -> None:
    with pytest.raises(disturbance_plan.Refused, match="component=operator .* found: 1 agent;"):
        disturbance_plan.plan({"agent": 1}, components=["agent", "operator"])


def test_the_oldest_pod_is_deleted_and_the_one_by_name_is_killed() -> None:
    pods = [a_pod("agent-b", "2026-01-01T00:00:00Z"), a_pod("agent-a", "2026-01-02T00:00:00Z"),
            a_pod("agent-c", "2025-01-01T00:00:00Z", going=True), a_pod("sync-a")]  # fmt: skip

    assert disturbance_plan.chosen(Step(Act.DELETE, "agent", 1), pods).name == "agent-b"
    assert disturbance_plan.chosen(Step(Act.KILL, "agent", 1), pods).name == "agent-b"
    assert disturbance_plan.chosen(Step(Act.KILL, "agent", 0), pods).name == "agent-a"
    with pytest.raises(
        disturbance_plan.Refused, match="no pod number 3 of agent to kill: .* 2 pod"
    ):
        disturbance_plan.chosen(Step(Act.KILL, "agent", 2), pods)


OLD, OTHER = a_pod("agent-a"), a_pod("agent-b")
AGAIN = replace(OLD, running=frozenset({"agent-a/2"}))
NEW = replace(OLD, uid="another")


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([NEW, OTHER], ""),
        ([AGAIN, OTHER], ""),
        ([OLD, OTHER], "agent-a still runs old containers"),
        ([replace(OLD, going=True), NEW, OTHER], "agent-a still terminates"),
        ([OTHER], "1 of 2 agent pods are ready"),
        ([replace(AGAIN, ready=False), OTHER],
         "1 of 2 agent pods are ready; not ready: agent-a"),
        ([NEW, OTHER, a_pod("agent-c")], "3 of 2 agent pods are ready"),
    ],
)  # fmt: skip
def test_whole_is_as_many_ready_pods_as_before_and_nothing_left_of_the_disturbed(
    pods: list[Pod], told: str
) -> None:
    assert disturbance_plan.missing(pods, {"agent": 2}, OLD) == told


def test_a_pod_to_which_something_is_missing_is_not_whole() -> None:
    reason = disturbance_plan.missing([OLD, OTHER], {"agent": 2}, None, ["agent-b"])

    assert reason == "not complete: agent-b"


def test_pods_are_read_as_the_api_server_writes_them() -> None:
    metadata = {
        "name": "x-0", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {COMPONENT: "sync"},
    }  # fmt: skip
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None}],
        "containerStatuses": [{"containerID": "containerd://abc", "state": {"running": {}}}],
    }
    items = [
        {"metadata": metadata, "status": status},
        {"metadata": metadata | {"deletionTimestamp": "2026-01-01T00:00:01Z"}},
        {"metadata": metadata, "status": {"phase": "Failed"}},
    ]

    first, second = disturbance_plan.pods_of({"items": items})

    assert first == Pod("x-0", "sync", "u", "2026-01-01T00:00:00Z", True, False, frozenset({"abc"}))
    assert (second.going, second.ready, second.running) == (True, False, frozenset())


# --- carrying it out


@dataclass
class FakeHands:
    """A fake installation in memory; its clock advances only by `sleep`."""

    there: list[Pod]
    after_s: float = 2.0
    """Seconds from a disturbance of a pod until the pod is ready again."""
    away_s: float = 0.0
    """Seconds from a restart until the API server answers again."""
    lacking_s: float = 0.0
    """Seconds from the time when a pod is ready again to the time when it is complete."""
    now_s: float = 100.0
    done: list[str] = field(default_factory=list)
    changed_s: float = float("-inf")
    _away_until_s: float = 0.0

    def pods(self) -> list[Pod]:
        if self.now_s < self._away_until_s:
            raise Away("GET pods was answered with 502")
        back = self.now_s - self.changed_s >= self.after_s
        return [replace(pod, ready=True) if back else pod for pod in self.there]

    def incomplete(self, pods: Sequence[Pod]) -> list[str]:
        lacks = self.now_s - self.changed_s < self.after_s + self.lacking_s
        return [pods[0].name] if lacks else []

    def delete(self, pod: Pod) -> None:
        self._replace(pod, replace(pod, uid=f"{pod.uid}'", created=f"2027 {len(self.done)}"))
        self.done.append(f"delete {pod.name}")

    def kill(self, pod: Pod) -> None:
        self._replace(pod, replace(pod, running=frozenset({f"{pod.name}/{len(self.done) + 2}"})))
        self.done.append(f"kill {pod.name}")

    def restart(self, process: str) -> None:
        self.done.append(f"restart {process}")
        self._away_until_s = self.now_s + self.away_s

    def _replace(self, old: Pod, new: Pod) -> None:
        self.there = [replace(new, ready=False) if pod == old else pod for pod in self.pods()]
        self.changed_s = self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def a_disturber(hands: FakeHands, **other: Any) -> Disturber:
    wanted = disturbance_plan.counted(hands.there)
    return Disturber(hands, wanted, clock=lambda: hands.now_s, sleep=hands.sleep, **other)


def disturbed(
    hands: FakeHands, *steps: Step, **other: Any
) -> tuple[list[load_judgement.Event], list[str]]:
    file = io.StringIO()
    broken = disturb.disturb(a_disturber(hands, **other), steps, file, lambda _: None)
    return load_judgement.read("events", file.getvalue().splitlines(keepends=True)), broken


def test_the_next_step_waits_until_all_was_whole_for_a_while() -> None:
    hands = FakeHands([a_pod("agent-a"), a_pod("agent-b")])

    happened, broken = disturbed(
        hands, *disturbance_plan.plan({"agent": 2}, components=["agent"], processes=[])
    )

    assert broken == []
    assert [event.name for event in happened] == hands.done
    assert hands.done == ["delete agent-a", "delete agent-b", "kill agent-a", "kill agent-b"]
    assert [event.kind for event in happened] == [Kind.DELETION] * 2 + [Kind.CRASH] * 2
    least_s = hands.after_s + disturb.REST_S
    assert all(
        least_s <= event.to_s - event.from_s <= least_s + 3 * disturb.POLL_S for event in happened
    )


def test_an_event_lasts_until_nothing_is_missing_to_any_pod() -> None:
    hands = FakeHands([a_pod("agent-a")], lacking_s=7.0)

    (event,), broken = disturbed(hands, Step(Act.KILL, "agent"))

    assert broken == []
    assert event.to_s - event.from_s >= 2.0 + 7.0 + disturb.REST_S


def test_an_api_server_that_is_away_is_waited_for() -> None:
    hands = FakeHands([a_pod("agent-a")], away_s=20.0)

    (event,), broken = disturbed(hands, Step(Act.RESTART, "kube-apiserver"))

    assert broken == []
    assert (event.name, event.kind) == ("restart kube-apiserver", Kind.CRASH)
    assert event.to_s - event.from_s >= 20.0 + disturb.RESTART_REST_S


def test_what_does_not_become_whole_is_told_and_ends_the_disturbances() -> None:
    hands = FakeHands([a_pod("agent-a"), a_pod("agent-b")], after_s=1000.0)
    steps = disturbance_plan.plan({"agent": 2}, components=["agent"])

    happened, broken = disturbed(hands, *steps, within_s=30.0)

    complaint = "not recovered after 30 s: 1 of 2 agent pods are ready; not ready: agent-a"
    assert [event.complaint for event in happened] == [complaint]
    assert broken == [f"delete agent-a: {complaint}"]
    assert hands.done == ["delete agent-a"]


def test_what_is_not_whole_before_is_not_disturbed() -> None:
    hands = FakeHands([a_pod("agent-a", ready=False)], after_s=1000.0, changed_s=99.0)

    happened, broken = disturbed(hands, Step(Act.KILL, "agent"), within_s=30.0)

    assert (happened, hands.done) == ([], [])
    assert broken[0].startswith("before the first step: not recovered after 30 s: 0 of 1 agent")


def test_a_step_that_cannot_be_made_is_an_event_with_a_complaint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(process: str) -> None:
        raise commands_here.KitError(f"test has no process {process!r}")

    hands = FakeHands([a_pod("agent-a")])
    monkeypatch.setattr(hands, "restart", refuse)

    (event,), broken = disturbed(hands, Step(Act.RESTART, "etcd-7"))

    assert event.complaint == "test has no process 'etcd-7'"
    assert broken == [f"restart etcd-7: {event.complaint}"]


# --- the API server


class Answering(BaseHTTPRequestHandler):
    """A fake API server: answers each path with a fixed status and text, and records requests."""

    answers: dict[str, tuple[int, str]]
    asked: list[str]

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        status, text = self.answers.get(self.path.partition("?")[0], (404, "no such path"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Do not log requests to stderr."""


@contextmanager
def answering(answers: dict[str, tuple[int, str]]) -> Iterator[tuple[Api, list[str]]]:
    asked: list[str] = []
    handler = type("Here", (Answering,), {"answers": answers, "asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Api(f"127.0.0.1:{server.server_port}"), asked
        finally:
            server.shutdown()
            thread.join()


PODS = "/api/v1/namespaces/here/pods"


def test_pods_are_asked_for_by_release_and_deleted_and_asked_for_their_health_by_name() -> None:
    answers = {
        PODS: (200, json.dumps({"items": []})),
        f"{PODS}/agent-a": (200, "{}"),
        f"{PODS}/agent-a:9090/proxy/completez": (200, "ok"),
        f"{PODS}/sync-a:9090/proxy/completez": (503, "no writer"),
    }
    with answering(answers) as (api, asked):
        hands = InCluster(api, "here", "demo", None)

        found = hands.pods()
        lacking = hands.incomplete([a_pod("agent-a"), a_pod("sync-a"), a_pod("operator-a")])
        hands.delete(a_pod("agent-a"))

    assert (found, lacking) == ([], ["sync-a"])
    assert asked == [
        f"GET {PODS}?labelSelector=app.kubernetes.io/instance%3Ddemo",
        f"GET {PODS}/agent-a:9090/proxy/completez",
        f"GET {PODS}/sync-a:9090/proxy/completez",
        f"DELETE {PODS}/agent-a",
    ]


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [(502, "dial tcp", Away), (429, "slower", Away), (200, "half of J", Away),
     (403, "forbidden", commands_here.KitError)],
)  # fmt: skip
def test_an_api_server_that_is_not_well_is_asked_again_and_a_refusal_is_told(
    status: int, text: str, kind: type[Exception]
) -> None:
    with (
        answering({"/x": (status, text)}) as (api, _),
        pytest.raises(commands_here.KitError) as raised,
    ):
        api.get("/x")

    assert type(raised.value) is kind
    assert text in str(raised.value)


def test_nobody_there_is_away() -> None:
    with answering({}) as (api, _):
        pass

    with pytest.raises(Away, match="Connection refused"):
        api.get("/x")


def test_kills_and_restarts_are_refused_where_the_kit_made_no_cluster() -> None:
    hands = InCluster(Api("127.0.0.1:1"), "here", "demo", None)

    with pytest.raises(commands_here.KitError, match="need a cluster that `make cluster` made"):
        hands.restart("kube-apiserver")


def a_program(folder: Path, text: str) -> Path:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    program.chmod(0o755)
    return program


def test_the_proxy_of_kubectl_is_found_by_what_it_says_and_ended(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; echo Starting to serve on 127.0.0.1:4711; exec sleep 60"

    with api_requests.proxied(a_program(tmp_path, script)) as api:
        assert api.address == "127.0.0.1:4711"

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_proxy_that_does_not_begin_is_told_with_its_complaint(tmp_path: Path) -> None:
    program = a_program(tmp_path, "echo error: no configuration >&2; exit 1")

    with (
        pytest.raises(commands_here.KitError, match="did not start: error: no configuration"),
        api_requests.proxied(program),
    ):
        pass
