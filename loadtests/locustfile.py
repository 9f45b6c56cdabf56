"""What locust runs: ``locust -f loadtests/locustfile.py``; `python -m loadtests` does that.

Locust starts the users, shows and adds up their figures; when a request begins is decided by
the plan (`loadtests.plan`), which lies in the file that LOAD_PLAN names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from locust import User, constant, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtests import gathered, schedule, sdk, tally
from loadtests import plan as plans
from loadtests.users import Crowd, Ended
from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs, metrics

FIGURES = "midstreamer_figures"
"""The message by which a worker tells them."""
LATEST_S = 30.0
"""So much later than they can, workers have told theirs."""
SETTLE_S = 1.0
LINGER_S = 30.0
"""So long locust's page is there after the load has ended."""


class Generator:
    """The load test of one process of locust."""

    def __init__(self, environment: Any, path: Path) -> None:
        self.environment = environment
        self.path = path
        self.plan = plans.read(path)
        self.crowd = Crowd(self.plan, ended=self._count)
        self.numbers = itertools.count(self.plan.worker, self.plan.workers)
        self.sdk = tally.Tally()
        self._cpu_s = self._began_s = 0.0
        self._busy = self._seconds = 0.0

    def run(self) -> None:
        """Wait for the users, go through the shape, write the figures, have locust quit."""
        gevent.sleep(SETTLE_S)  # connections settle
        beside = gevent.spawn(self._run_sdk) if self.plan.sdk_per_s else None
        watching = gevent.spawn(self._watch)
        self._cpu_s, self._began_s = time.process_time(), time.monotonic()
        self.crowd.run()
        self._seconds = time.monotonic() - self._began_s
        self._busy = (time.process_time() - self._cpu_s) / self._seconds
        watching.kill()
        if beside is not None:
            beside.join(timeout=self.plan.budget_s + 5)
        self.crowd.leave()
        runner = self.environment.runner
        if isinstance(runner, WorkerRunner):
            self.environment.process_exit_code = 0  # the master judges
            runner.send_message(FIGURES, self.told())
            return
        judge(self.environment, self.plan, [self.told()])
        if self.environment.web_ui is not None:
            gevent.sleep(LINGER_S)
            self.environment.web_ui.stop()

    def told(self) -> dict[str, Any]:
        """All figures."""
        transport = self.crowd.transport
        return {
            "stages": [tally.plain(each) for each in self.crowd.tallies],
            "sdk": tally.plain(self.sdk),
            "users": len(self.crowd.users),
            "seconds": self._seconds,
            "processors": self._busy,
            "repeats": dict(self.crowd.repeats),
            "transport": {
                "links": transport.links,
                "lost_packets": transport.lost_packets,
                "rtt": tally.plain_durations(transport.rtt),
                "window": tally.plain_durations(transport.window_bytes),
            },
        }

    def _count(self, ended: Ended) -> None:
        result = "failed" if ended.error else "ok"
        metrics.LOAD_LATENCY_S.labels(ended.kind, result).observe(ended.latency_s)
        if ended.kind in self.plan.mix:
            metrics.LOAD_LATE_S.observe(max(0.0, ended.late_s))
        self._fire("QUIC", ended.kind, ended.latency_s, ended.error)

    def _fire(self, how: str, kind: str, seconds: float, error: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type=how, name=kind, response_time=seconds * 1e3, response_length=0,
            exception=error, context={},
        )  # fmt: skip

    def _watch(self) -> None:
        """Keep the gauges of this load test up to date."""
        cpu_s, at_s = self._cpu_s, self._began_s
        while True:
            gevent.sleep(1.0)
            cpu, now_s = time.process_time(), time.monotonic()
            metrics.LOAD_PROCESSORS.set((cpu - cpu_s) / (now_s - at_s))
            cpu_s, at_s = cpu, now_s
            metrics.LOAD_USERS.labels("quic").set(len(self.crowd.users))
            metrics.LOAD_USERS.labels("sdk").set(1 if self.plan.sdk_per_s else 0)
            passed_s = now_s - self._began_s
            metrics.LOAD_OFFERED.set(schedule.rate_at(self.plan.shape.stages, passed_s))

    def _run_sdk(self) -> None:
        """A user of the SDK in a process of its own; what it says goes into the same figures."""
        process = gevent.subprocess.Popen(
            sdk.command(self.path), stdout=gevent.subprocess.PIPE, text=True
        )
        try:
            for line in process.stdout:
                said = json.loads(line)
                kind, seconds = f"sdk.{said['kind']}", said["latency_s"]
                if said["code"]:
                    self.sdk.failed(kind, said["code"])
                else:
                    self.sdk.ok(kind, latency_s=seconds, service_s=said["service_s"])
                error = MidstreamerError(said["code"]) if said["code"] else None
                self._fire("SDK", kind, seconds, error)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()


class Gatherer:
    """The master: it asks nothing itself, and adds up what its workers tell."""

    def __init__(self, environment: Any, plan: plans.Plan) -> None:
        self.environment = environment
        self.plan = plan
        self.told: dict[str, dict[str, Any]] = {}
        """Figures, by the worker that told them."""
        self._new = Event()
        environment.runner.register_message(FIGURES, self._take)

    def run(self) -> None:
        """Wait for all figures, but not much longer than the load can take; judge, and quit."""
        users = self.plan.shape.users
        print(f"loading: {users} users of {self.plan.workers} workers", file=sys.stderr, flush=True)
        until_s = time.monotonic() + schedule.length_s(self.plan.shape.stages)
        until_s += 3 * self.plan.budget_s + LATEST_S
        while len(self.told) < self.plan.workers and time.monotonic() < until_s:
            self._new.wait(timeout=until_s - time.monotonic())
            self._new.clear()
        judge(self.environment, self.plan, list(self.told.values()))

    def _take(self, environment: Any, msg: Any, **_given: Any) -> None:
        self.told[msg.node_id] = msg.data
        self._new.set()


def judge(environment: Any, plan: plans.Plan, told: list[dict[str, Any]]) -> None:
    """Write the figures of all, and have locust quit with what the thresholds say."""
    environment.process_exit_code = 1
    try:
        made = gathered.judged(told, plan.thresholds, plan.workers)
        environment.process_exit_code = 1 if made["broken"] else 0
        plan.answer.write_text(json.dumps(made), encoding="utf-8")
    finally:
        environment.runner.quit()


class FrameUser(User):
    """A user that speaks frames over a QUIC link of its own; the crowd says when."""

    wait_time = constant(1)

    def on_start(self) -> None:
        """Dial; a user that cannot is counted and not there."""
        generator: Generator = self.environment.generator
        with contextlib.suppress(MidstreamerError):
            generator.crowd.join(next(generator.numbers))

    @task
    def stay(self) -> None:
        """Nothing: requests begin by the schedule."""


def _begin(environment: Any, **_given: Any) -> None:
    logs.configure(json=False, level="error")
    path = os.environ.get(plans.VARIABLE)
    if not path:
        raise SystemExit(f"{plans.VARIABLE} names no plan: start this by `python -m loadtests`")
    generator: Generator | Gatherer
    if isinstance(environment.runner, MasterRunner):
        generator = Gatherer(environment, plans.read(Path(path)))
    else:
        environment.generator = generator = Generator(environment, Path(path))
    if generator.plan.metrics:
        host, _, port = generator.plan.metrics.rpartition(":")
        WSGIServer((host, int(port)), _metrics, log=None).start()

    def spawned(**_given: Any) -> None:
        gevent.spawn(generator.run)

    environment.events.spawning_complete.add_listener(spawned)


events.init.add_listener(_begin)  # type: ignore[no-untyped-call]


def _metrics(_request: dict[str, Any], begin: Any) -> list[bytes]:
    begin("200 OK", [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])
    return [metrics.render()]
