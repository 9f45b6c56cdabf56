"""The file that locust runs; ``python -m loadtests`` starts locust with it.

Locust starts the users and shows statistics.  The plan (`loadtests.load_plan`) decides when
requests start; the environment variable LOAD_PLAN names its file.
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

from loadtests import load_plan as plans
from loadtests import merged_results, result_counts, start_times, user_of_sdk
from loadtests.users import Crowd, Ended
from midstreamer.domain.errors import MidstreamerError
from midstreamer.telemetry import logs, metrics

FIGURES = "midstreamer_figures"
"""Type of the message in which a worker sends its results to the master."""
LATEST_S = 30.0
"""Seconds that the master waits for results after the time at which the load must be over."""
SETTLE_S = 1.0
"""Pause in seconds between opening the links and the first request."""
LINGER_S = 30.0
"""Seconds for which locust's page stays available after the load."""


class Generator:
    """The part of a load test that one process of locust runs: its users and their requests."""

    def __init__(self, environment: Any, path: Path) -> None:
        self.environment = environment
        self.path = path
        self.plan = plans.read(path)
        self.crowd = Crowd(self.plan, ended=self._count)
        self.numbers = itertools.count(self.plan.worker, self.plan.workers)
        self.sdk = result_counts.Tally()
        self._cpu_s = self._began_s = 0.0
        self._busy = self._seconds = 0.0

    def run(self) -> None:
        """Run the shape after a pause, deliver the results, and let locust quit.

        A worker sends its results to the master, which judges them.  A process that runs without a
        master judges its results itself.
        """
        gevent.sleep(SETTLE_S)  # wait until the handshakes have ended
        sdk_user = gevent.spawn(self._run_sdk) if self.plan.sdk_per_s else None
        watching = gevent.spawn(self._watch)
        self._cpu_s, self._began_s = time.process_time(), time.monotonic()
        self.crowd.run()
        self._seconds = time.monotonic() - self._began_s
        self._busy = (time.process_time() - self._cpu_s) / self._seconds
        watching.kill()
        if sdk_user is not None:
            sdk_user.join(timeout=self.plan.budget_s + 5)
        self.crowd.leave()
        runner = self.environment.runner
        if isinstance(runner, WorkerRunner):
            # A worker reports success, because only the master compares results with thresholds.
            self.environment.process_exit_code = 0
            runner.send_message(FIGURES, self.told())
            return
        judge(self.environment, self.plan, [self.told()])
        if self.environment.web_ui is not None:
            gevent.sleep(LINGER_S)
            self.environment.web_ui.stop()

    def told(self) -> dict[str, Any]:
        """Return the results of this process, as a dict that can be written as JSON."""
        transport = self.crowd.transport
        return {
            "stages": [result_counts.plain(each) for each in self.crowd.tallies],
            "sdk": result_counts.plain(self.sdk),
            "users": len(self.crowd.users),
            "seconds": self._seconds,
            "processors": self._busy,
            "repeats": dict(self.crowd.repeats),
            "transport": {
                "links": transport.links,
                "lost_packets": transport.lost_packets,
                "rtt": result_counts.plain_durations(transport.rtt),
                "window": result_counts.plain_durations(transport.window_bytes),
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
        """Update the gauges of this load test once per second, until killed."""
        cpu_s, at_s = self._cpu_s, self._began_s
        while True:
            gevent.sleep(1.0)
            cpu, now_s = time.process_time(), time.monotonic()
            metrics.LOAD_PROCESSORS.set((cpu - cpu_s) / (now_s - at_s))
            cpu_s, at_s = cpu, now_s
            metrics.LOAD_USERS.labels("quic").set(len(self.crowd.users))
            metrics.LOAD_USERS.labels("sdk").set(1 if self.plan.sdk_per_s else 0)
            passed_s = now_s - self._began_s
            metrics.LOAD_OFFERED.set(start_times.rate_at(self.plan.shape.stages, passed_s))

    def _run_sdk(self) -> None:
        """Run the SDK user in its own process, and count the requests that it reports."""
        process = gevent.subprocess.Popen(
            user_of_sdk.command(self.path), stdout=gevent.subprocess.PIPE, text=True
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
    """The master: it sends no requests, and merges the results of its workers."""

    def __init__(self, environment: Any, plan: plans.Plan) -> None:
        self.environment = environment
        self.plan = plan
        self.told: dict[str, dict[str, Any]] = {}
        """Results of the workers, by locust's id of the worker."""
        self._new = Event()
        environment.runner.register_message(FIGURES, self._take)

    def run(self) -> None:
        """Wait for the results of all workers, judge them, and let locust quit.

        The wait ends at most ``3 * plan.budget_s + LATEST_S`` seconds after the last stage, even if
        results are missing. Requests in progress need up to ``3 * plan.budget_s`` seconds.
        """
        users = self.plan.shape.users
        print(
            f"{plans.STARTS}: {users} users on {self.plan.workers} workers",
            file=sys.stderr,
            flush=True,
        )
        until_s = time.monotonic() + start_times.length_s(self.plan.shape.stages)
        until_s += 3 * self.plan.budget_s + LATEST_S
        while len(self.told) < self.plan.workers and time.monotonic() < until_s:
            self._new.wait(timeout=until_s - time.monotonic())
            self._new.clear()
        judge(self.environment, self.plan, list(self.told.values()))

    def _take(self, environment: Any, msg: Any, **_given: Any) -> None:
        self.told[msg.node_id] = msg.data
        self._new.set()


def judge(environment: Any, plan: plans.Plan, told: list[dict[str, Any]]) -> None:
    """Write the merged results, and let locust quit; exit code 1 if a threshold was exceeded."""
    environment.process_exit_code = 1
    try:
        results = merged_results.judged(told, plan.thresholds, plan.workers)
        environment.process_exit_code = 1 if results["broken"] else 0
        plan.answer.write_text(json.dumps(results), encoding="utf-8")
    finally:
        environment.runner.quit()


class FrameUser(User):
    """A user with its own QUIC link; `loadtests.users.Crowd` decides when it sends requests."""

    wait_time = constant(1)

    def on_start(self) -> None:
        """Open the user's link.

        If this fails, the failure is counted, and the user sends no requests.
        """
        generator: Generator = self.environment.generator
        with contextlib.suppress(MidstreamerError):
            generator.crowd.join(next(generator.numbers))

    @task
    def stay(self) -> None:
        """Do nothing, because the schedule starts the requests."""


def _begin(environment: Any, **_given: Any) -> None:
    logs.configure(json=False, level="error")
    path = os.environ.get(plans.VARIABLE)
    if not path:
        raise SystemExit(
            f"{plans.VARIABLE} is not set: start the load test with `python -m loadtests`"
        )
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
