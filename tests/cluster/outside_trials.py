"""Send load to a release from outside, disturb the release, and check the result.

Load, disturbances and report are separate processes.

    trial = Trial(release, folder)
    with trial.load():                      the load has stored history, and now sends requests
        trial.disturb()                     or any other action during the load
    trial.report()                          raises KitError with all checks that failed

If `tests.cluster` made the cluster, the load runs in the network namespace of clients, and the
report in the network namespace of node-0.  For any other cluster, both run on this machine.  This
machine cannot reach the database of such a cluster, so the report does not audit the database.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import cluster_guard, commands_here
from tests.cluster.releases import Release

REPOSITORY = Path(__file__).parents[2]
BEGIN_S_MAX = 60.0
END_S_MAX = 60.0
"""Seconds that a load may take to end after SIGTERM: more than the deadline of a request."""
REPORT_S_MAX = 180.0


@dataclass(frozen=True)
class Trial:
    """One release to which a load is sent.

    `folder` gets all files: the client's credentials, the records of the load's requests, the
    disturbances, and the table of the report.
    """

    release: Release
    folder: Path

    @property
    def load_file(self) -> Path:
        """The path of the file in which the load records its requests."""
        return self.folder / "load.jsonl"

    @property
    def events_file(self) -> Path:
        """The path of the list of disturbances; the file is missing when nothing was disturbed."""
        return self.folder / "events.jsonl"

    @property
    def table(self) -> Path:
        """The path of the report's table, in Markdown."""
        return self.folder / "table.md"

    # --- the load ---

    def addresses(self) -> list[str]:
        """Return the coordinators' addresses for clients outside: the node port of each node."""
        service = self.release.kubernetes.get(f"service/{self.release.name}")
        port = service["spec"]["ports"][0].get("nodePort")
        if port is None:
            raise commands_here.KitError(
                f"service {self.release.name} has no node port: install the chart with"
                " coordinator.service.type=NodePort"
            )
        nodes = self.release.kubernetes.get("nodes")["items"]
        kinds = [each for node in nodes for each in node["status"]["addresses"]]
        return [f"{each['address']}:{port}" for each in kinds if each["type"] == "InternalIP"]

    def client_words(self) -> list[str]:
        """Return arguments for `tests.cluster.load` and `replay_comparison`.

        They say how the client connects: the addresses of the fleet, and the folder of the client's
        credentials. If the folder is missing, make the credentials first.
        """
        certs = self.folder / "certs"
        if not certs.exists():
            self.release.client(certs)
        return ["--addresses", ",".join(self.addresses()), "--certs", str(certs)]

    @contextmanager
    def load(self, *words: str) -> Iterator[None]:
        """Run the load inside the block; `words` are additional arguments of the load.

        Raises KitError when the load does not start or fails.
        """
        command = self.outside("load", *self.client_words(), "--write", str(self.load_file), *words)
        log = self.folder / "load.log"
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            reader = _Reader(process, self.folder / "load.seconds.jsonl")
            try:
                reader.ready(log)
                yield
                process.terminate()
                code = _ended(process)
                if code:
                    raise commands_here.KitError(f"the load ended with {code}: {_tail(log)}")
            finally:
                if process.poll() is None:
                    process.kill()
                reader.join()

    def outside(self, module: str, *words: str) -> list[str]:
        """Return a command line that runs a module of this package where it can reach the fleet.

        See `beside`.
        """
        return self.beside(*_module(module, *words))

    def beside(self, *command: str) -> list[str]:
        """Return a command line that runs a command where it can reach the fleet.

        If `tests.cluster` made the cluster, the command runs in the network namespace of clients.
        Else it runs on this machine itself.
        """
        return _placed("outside", *command)

    # --- methods for actions during the load, and for the report ----------------------------------

    def disturb(self, *words: str, timeout_s: float = 1800.0) -> None:
        """Run `tests.cluster.disturb`; `words` are additional arguments.

        Raises KitError when the command fails or takes longer than `timeout_s` seconds.
        """
        where = ["--namespace", self.release.namespace, "--release", self.release.name]
        command = [sys.executable, "-m", "tests.cluster.disturb", *where]
        command += ["--write", str(self.events_file), *words]
        _run(command, timeout_s)

    def replayed(self, *words: str, timeout_s: float = 1800.0) -> str:
        """Replay the same data to the fleet and to a local fleet, and compare the decisions.

        `words` are arguments of `tests.cluster.replay_comparison` that choose the data.  Return the
        output of the comparison; raise KitError with the first differences.
        """
        here, there = str(self.folder / "here.jsonl"), str(self.folder / "there.jsonl")
        client = [*self.client_words(), "--write", there, *words]
        local = [sys.executable, "-m", "tests.cluster.replay_comparison"]
        _run(self.outside("replay_comparison", "fleet", *client), timeout_s)
        _run([*local, "local", "--write", here, *words], timeout_s)
        return _run([*local, "compare", here, there], timeout_s)

    def report(self, limit_s: float | None = None) -> str:
        """Return the output of `disturbance_report`; raises KitError with all failed checks.

        `limit_s` is the greatest permitted latency of a request in seconds.  Without it, the limit
        depends on the kind of disturbance: see `load_judgement.Kind`.
        """
        words = ["--load", str(self.load_file), "--markdown", str(self.table)]
        words += [] if limit_s is None else ["--limit-s", f"{limit_s:g}"]
        if self.events_file.exists():
            words += ["--events", str(self.events_file)]
        if cluster_guard.made_here():
            words += self._store_words()
        return _run(_placed("inside", *_module("disturbance_report", *words)), REPORT_S_MAX)

    def _store_words(self) -> list[str]:
        name = f"{self.release.name}-postgres"
        (pod,) = self.release.pods("postgres")
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self.release.password(), encoding="utf-8")
        trust = self.folder / "certs" / "trust.pem"
        server = f"{name}.{self.release.namespace}.svc"
        dsn = f"postgresql://midstreamer@{server}/midstreamer"
        dsn += f"?sslmode=verify-full&sslrootcert={trust}"
        where = ["--address", pod["status"]["podIP"]]
        return ["--dsn", dsn, "--password-file", str(password), *where]


def _module(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"tests.cluster.{name}", *words]


def _placed(verb: str, *command: str) -> list[str]:
    """Return a command line that runs a command in a network namespace of the cluster.

    The `verb` "inside" chooses the network namespace of node-0; "outside" chooses the network
    namespace of clients.  If `tests.cluster` did not make the cluster, return the command itself.
    """
    cluster = cluster_guard.made_here()
    if cluster is None:
        return list(command)
    return [sys.executable, "-m", "tests.cluster", "--name", cluster.name, verb, *command]


def _run(command: list[str], timeout_s: float) -> str:
    """Run a command, print its output line by line, and return the output.

    Raises KitError when the command fails or takes longer than `timeout_s` seconds.
    """
    output: list[str] = []
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        late = threading.Timer(timeout_s, process.terminate)
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                output.append(line)
                commands_here.say(line.rstrip("\n"))
            code = process.wait()
        finally:
            late.cancel()
            process.terminate()
    if code:
        why = f"ended with {code}"
        if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            why = f"was ended by SIGTERM, as after its timeout of {timeout_s:g} s"
        raise commands_here.KitError(f"`{' '.join(command[1:4])}` {why}: {''.join(output)[-4000:]}")
    return "".join(output)


class _Reader:
    """Reads a load's output in a thread, so that the load never blocks; saves it in a file."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self._process, self._file = process, file
        self._first: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, name="load", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._file.open("w", encoding="utf-8") as kept:
            for line in self._process.stdout:
                kept.write(line)
                kept.flush()
                self._first.put(line)
        self._first.put("")

    def ready(self, log: Path) -> None:
        """Wait until the load reports that it is ready; raises KitError with the end of its log."""
        try:
            first = self._first.get(timeout=BEGIN_S_MAX)
        except queue.Empty:
            raise commands_here.KitError(
                f"the load was not ready within {BEGIN_S_MAX:g} s: {_tail(log)}"
            ) from None
        if not first or not json.loads(first).get("ready"):
            raise commands_here.KitError(f"the load did not start: {_tail(log)}")

    def join(self) -> None:
        """Wait until the load has ended and its output is read."""
        self._process.wait(END_S_MAX)
        self._thread.join(END_S_MAX)


def _ended(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        raise commands_here.KitError(
            f"the load did not end within {END_S_MAX:g} s of SIGTERM"
        ) from None


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-800:] or "its log is empty"
