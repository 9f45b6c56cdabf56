"""A release under load: driven from outside, disturbed, and judged, each by a process of its own.

    trial = Trial(release, folder)
    with trial.load():                      the driver runs and its history is stored
        trial.disturb()                     or anything else that is done meanwhile
    trial.report()                          raises KitError with all that did not hold

In a cluster of the kit the load comes from beside the nodes and the audit from node-0; another
cluster is reached from here, and its database is not: there the audit is left out.
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

from tests.cluster import host, mark
from tests.cluster.releases import Release

REPOSITORY = Path(__file__).parents[2]
BEGIN_S_MAX = 60.0
END_S_MAX = 60.0
"""More than the deadline of the last request."""
REPORT_S_MAX = 180.0


@dataclass(frozen=True)
class Trial:
    """One release under load; `folder` takes credentials, records, events and the table."""

    release: Release
    folder: Path

    @property
    def load_file(self) -> Path:
        """Records of the load."""
        return self.folder / "load.jsonl"

    @property
    def events_file(self) -> Path:
        """What was done; none when nothing was."""
        return self.folder / "events.jsonl"

    @property
    def table(self) -> Path:
        """The report's table, in Markdown."""
        return self.folder / "table.md"

    # --- the load ---

    def addresses(self) -> list[str]:
        """Where clients outside reach the coordinators: the node port, on every node."""
        service = self.release.kubernetes.get(f"service/{self.release.name}")
        port = service["spec"]["ports"][0].get("nodePort")
        if port is None:
            raise host.KitError(
                f"service {self.release.name} has no node port: install the chart with"
                " coordinator.service.type=NodePort"
            )
        nodes = self.release.kubernetes.get("nodes")["items"]
        kinds = [each for node in nodes for each in node["status"]["addresses"]]
        return [f"{each['address']}:{port}" for each in kinds if each["type"] == "InternalIP"]

    def client_words(self) -> list[str]:
        """Arguments of `load` and `replay fleet`; makes the credentials that they name."""
        certs = self.folder / "certs"
        if not certs.exists():
            self.release.client(certs)
        return ["--addresses", ",".join(self.addresses()), "--certs", str(certs)]

    @contextmanager
    def load(self, *words: str) -> Iterator[None]:
        """The driver asks while inside; `words` are more arguments of it.  Raises KitError."""
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
                    raise host.KitError(f"the load ended with {code}: {_tail(log)}")
            finally:
                if process.poll() is None:
                    process.kill()
                reader.join()

    def outside(self, module: str, *words: str) -> list[str]:
        """The command line of a module of this package, run as a client of the fleet."""
        return self.beside(*_module(module, *words))

    def beside(self, *command: str) -> list[str]:
        """A command, run where `addresses` lead to the fleet: beside the nodes."""
        return _placed("outside", *command)

    # --- what is done, and what became of it ---

    def disturb(self, *words: str, timeout_s: float = 1800.0) -> None:
        """Carry the disturbances out; `words` are more arguments.  Raises KitError."""
        where = ["--namespace", self.release.namespace, "--release", self.release.name]
        command = [sys.executable, "-m", "tests.cluster.disturbing", *where]
        command += ["--write", str(self.events_file), *words]
        _run(command, timeout_s)

    def replayed(self, *words: str, timeout_s: float = 1800.0) -> str:
        """Replay the shipped history from outside and on one machine, and compare: what it says.

        `words` choose a part of it.  Raises KitError with the first differences.
        """
        here, there = str(self.folder / "here.jsonl"), str(self.folder / "there.jsonl")
        client = [*self.client_words(), "--write", there, *words]
        local = [sys.executable, "-m", "tests.cluster.replay"]
        _run(self.outside("replay", "fleet", *client), timeout_s)
        _run([*local, "local", "--write", here, *words], timeout_s)
        return _run([*local, "compare", here, there], timeout_s)

    def report(self, limit_s: float | None = None) -> str:
        """Table and audit in words; raises KitError with all that did not hold.

        `limit_s` is for each answer, in place of the limits of kinds of events.
        """
        words = ["--load", str(self.load_file), "--markdown", str(self.table)]
        words += [] if limit_s is None else ["--limit-s", f"{limit_s:g}"]
        if self.events_file.exists():
            words += ["--events", str(self.events_file)]
        if mark.made_here():
            words += self._store_words()
        return _run(_placed("inside", *_module("report", *words)), REPORT_S_MAX)

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
    """A command, run `inside` or `outside` of a cluster that was made here; else as it is."""
    cluster = mark.made_here()
    if cluster is None:
        return list(command)
    return [sys.executable, "-m", "tests.cluster", "--name", cluster.name, verb, *command]


def _run(command: list[str], timeout_s: float) -> str:
    """Run a command, tell people what it says as it says it, and return that; raises KitError."""
    told: list[str] = []
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        late = threading.Timer(timeout_s, process.terminate)
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                told.append(line)
                host.say(line.rstrip("\n"))
            code = process.wait()
        finally:
            late.cancel()
            process.terminate()
    if code:
        why = f"ended with {code}"
        if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            why = f"was ended by SIGTERM; it may take {timeout_s:g} s"
        raise host.KitError(f"`{' '.join(command[1:4])}` {why}: {''.join(told)[-4000:]}")
    return "".join(told)


class _Reader:
    """Takes in what the driver says, so that it never waits for us; keeps it in a file."""

    def __init__(self, process: subprocess.Popen[str], file: Path) -> None:
        self._process, self._file = process, file
        self._first: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, name="load", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._file.open("w", encoding="utf-8") as kept:
            for said in self._process.stdout:
                kept.write(said)
                kept.flush()
                self._first.put(said)
        self._first.put("")

    def ready(self, log: Path) -> None:
        """Wait until the driver says that it is ready; raises KitError with its complaint."""
        try:
            said = self._first.get(timeout=BEGIN_S_MAX)
        except queue.Empty:
            raise host.KitError(
                f"the load was not ready within {BEGIN_S_MAX:g} s: {_tail(log)}"
            ) from None
        if not said or not json.loads(said).get("ready"):
            raise host.KitError(f"the load did not begin: {_tail(log)}")

    def join(self) -> None:
        """Wait until all is read; the process has ended."""
        self._process.wait(END_S_MAX)
        self._thread.join(END_S_MAX)


def _ended(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        raise host.KitError(f"the load did not end within {END_S_MAX:g} s of SIGTERM") from None


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-800:] or "it said nothing"
