"""Test a fleet as a person with kubectl, who has a client certificate and is outside the cluster.

    trial = Desk(release, folder)                   QUIC, through the node port
    with forwarded(release) as ways:
        trial = Desk(release, folder, ways=ways)    WebSocket, through `kubectl port-forward`

A `Desk` is a `Trial` whose client certificate comes from the command
`midstreamer-k8s certs request`, which is run with the rights of KUBECONFIG's user.
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

from tests.cluster import cluster_guard, commands_here
from tests.cluster.outside_trials import REPOSITORY, Trial
from tests.cluster.releases import Release

LABEL = "desk-1"
WITHIN_S = 90.0
OUTSIDE_PORT = 7401
AGAIN_S = 0.2
"""Seconds before a `kubectl port-forward` that ended is started again."""


def k8s(release: Release, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `midstreamer-k8s` for a release, as the user of KUBECONFIG; return code and output."""
    path = f"{cluster_guard.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    target = ("--namespace", release.namespace, "--release", release.name)
    code = "from midstreamer_operator.k8s.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words, *target],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )


@dataclass(frozen=True)
class Desk(Trial):
    """A trial in which a person's client, outside the cluster, sends the load.

    The allowlist of the release must admit `client/desk-*`.
    """

    ways: Sequence[str] = ()
    """Addresses at which a client on this machine reaches the fleet.

    If empty, the client runs in the network namespace of clients and uses the node port.
    """

    def addresses(self) -> list[str]:
        """Return the addresses in `ways`; if it is empty, the addresses of the node port."""
        return list(self.ways) or super().addresses()

    def client_words(self) -> list[str]:
        """Return arguments for the load: the addresses, the certificate folder and the identity.

        If the folder is missing, request the client certificate first.
        """
        certs = self.folder / "certs"
        if not certs.exists():
            done = k8s(self.release, "certs", "request", LABEL, "--directory", str(certs))
            if done.returncode:
                raise commands_here.KitError(done.stderr)
        where = ["--addresses", ",".join(self.addresses()), "--certs", str(certs)]
        return [*where, "--identity", f"client/{LABEL}"]

    def beside(self, *command: str) -> list[str]:
        """Return a command line that runs a command where it can reach the fleet.

        If the attribute `ways` has addresses, the command runs on this machine itself, because it
        can reach them from here.  If `ways` is empty, it runs in the network namespace of clients.
        """
        return list(command) if self.ways else super().beside(*command)

    def midstreamer(self, *words: str) -> str:
        """Run the command `midstreamer` with the client certificate; return its output.

        Raises KitError.
        """
        self.client_words()
        settings = {
            "MIDSTREAMER_CLIENT__IDENTITY": f"client/{LABEL}",
            "MIDSTREAMER_CLIENT__ADDRESSES": json.dumps(self.addresses()),
            "MIDSTREAMER_CLIENT__REACH_S": "10",
            "MIDSTREAMER_SECURITY__DIRECTORY": str(self.folder / "certs"),
        }
        done = subprocess.run(
            self.beside(sys.executable, "-m", "midstreamer", *words),
            cwd=REPOSITORY,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=10 * WITHIN_S,
        )
        if done.returncode:
            raise commands_here.KitError(f"midstreamer {' '.join(words)}: {done.stderr[-2000:]}")
        return done.stdout


# --- kubectl port-forward -------------------------------------------------------------------------


@dataclass
class Forward:
    """Runs `kubectl port-forward` to one pod, and starts it again whenever it ends."""

    release: Release
    pod: str
    port: int
    begun: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Keep the forward running until `stop` is called."""
        words = [
            str(cluster_guard.kubectl()),
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
            for line in process.stdout:
                if line.startswith("Forwarding from"):
                    self._open.set()

    def wait(self) -> None:
        """Wait until the forward is open for the first time; raises KitError."""
        if not self._open.wait(WITHIN_S):
            raise commands_here.KitError(
                f"`kubectl port-forward` to {self.pod} did not open within {WITHIN_S:g} s"
            )

    def stop(self) -> None:
        """End the forward; `run` returns."""
        with self._lock:
            self._stop.set()
            if self._process is not None:
                self._process.terminate()


@contextmanager
def forwarded(release: Release, first_port: int = 7440) -> Iterator[list[str]]:
    """While the block runs, forward one local port to each coordinator's pod.

    Return the addresses of these ports. Their numbers begin at `first_port`.
    """
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
        commands_here.say(f"starts of each forward: {begun}")
