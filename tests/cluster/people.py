"""A person with kubectl: a certificate of his own, and ways to a fleet from where he sits.

    trial = Desk(release, folder)                   by the node port, QUIC
    with forwarded(release) as ways:
        trial = Desk(release, folder, ways=ways)    by `kubectl port-forward`, WebSocket

A `Desk` is a trial whose client is certified as the handbook says, by `midstreamer-k8s certs
request` with the rights of KUBECONFIG's user.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.cluster import host, mark
from tests.cluster.releases import Release
from tests.cluster.trials import REPOSITORY, Trial

LABEL = "desk-1"
WITHIN_S = 90.0
OUTSIDE_PORT = 7401
AGAIN_S = 0.2
"""Pause before a forward that ended is begun again."""


def k8s(release: Release, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `midstreamer-k8s` as the user of KUBECONFIG."""
    path = f"{mark.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    there = ("--namespace", release.namespace, "--release", release.name)
    code = "from midstreamer_operator.k8s.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words, *there],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )


@dataclass(frozen=True)
class Desk(Trial):
    """A release under the load of a person's client; it must let `client/desk-*` in."""

    ways: Sequence[str] = ()
    """Addresses that lead there from here; none: the node port, from beside the nodes."""

    def addresses(self) -> list[str]:
        """See `Trial`."""
        return list(self.ways) or super().addresses()

    def client_words(self) -> list[str]:
        """See `Trial`."""
        certs = self.folder / "certs"
        if not certs.exists():
            done = k8s(self.release, "certs", "request", LABEL, "--directory", str(certs))
            if done.returncode:
                raise host.KitError(done.stderr)
        where = ["--addresses", ",".join(self.addresses()), "--certs", str(certs)]
        return [*where, "--identity", f"client/{LABEL}"]

    def beside(self, *command: str) -> list[str]:
        """See `Trial`; `ways` lead there from here."""
        return list(command) if self.ways else super().beside(*command)

    def midstreamer(self, *words: str) -> str:
        """What the command `midstreamer` prints as this person; raises KitError."""
        self.client_words()
        told = {
            "MIDSTREAMER_CLIENT__IDENTITY": f"client/{LABEL}",
            "MIDSTREAMER_CLIENT__ADDRESSES": json.dumps(self.addresses()),
            "MIDSTREAMER_CLIENT__REACH_S": "10",
            "MIDSTREAMER_SECURITY__DIRECTORY": str(self.folder / "certs"),
        }
        done = subprocess.run(
            self.beside(sys.executable, "-m", "midstreamer", *words),
            cwd=REPOSITORY,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            timeout=10 * WITHIN_S,
        )
        if done.returncode:
            raise host.KitError(f"midstreamer {' '.join(words)}: {done.stderr[-2000:]}")
        return done.stdout


# --- kubectl port-forward -------------------------------------------------------------------------


@dataclass
class Forward:
    """`kubectl port-forward` to one pod, begun again whenever it ends."""

    release: Release
    pod: str
    port: int
    begun: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Keep it up until told to stop."""
        words = [
            str(mark.kubectl()),
            "-n",
            self.release.namespace,
            "port-forward",
            f"pod/{self.pod}",
        ]
        words += ["--address=127.0.0.1", f"{self.port}:{OUTSIDE_PORT}"]
        while not self._stop.is_set():
            with self._lock:
                if self._stop.is_set():
                    return
                self._process = subprocess.Popen(
                    words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            self.begun += 1
            self._listen(self._process)
            self._stop.wait(AGAIN_S)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process:
            for said in process.stdout:
                if said.startswith("Forwarding from"):
                    self._open.set()

    def wait(self) -> None:
        """Wait until it leads there for the first time; raises KitError."""
        if not self._open.wait(WITHIN_S):
            raise host.KitError(f"no forward to {self.pod} within {WITHIN_S:g} s")

    def stop(self) -> None:
        """End it."""
        with self._lock:
            self._stop.set()
            if self._process is not None:
                self._process.terminate()


@contextmanager
def forwarded(release: Release, first_port: int = 7440) -> Iterator[list[str]]:
    """A port of here for each coordinator, while inside: the addresses."""
    names = sorted(pod["metadata"]["name"] for pod in release.pods("coordinator"))
    forwards = [Forward(release, name, first_port + at) for at, name in enumerate(names)]
    threads = [threading.Thread(target=each.run, name=each.pod) for each in forwards]
    for thread in threads:
        thread.start()
    try:
        for each in forwards:
            each.wait()
        yield [f"wss://127.0.0.1:{each.port}" for each in forwards]
    finally:
        for each in forwards:
            each.stop()
        for thread in threads:
            thread.join()
        begun = ", ".join(f"{each.pod} {each.begun}" for each in forwards)
        host.say(f"forwards begun: {begun}")
