"""The API server by `kubectl proxy`: asked many times a second, where a kubectl each is too dear.

The proxy has the rights of KUBECONFIG, listens on this machine only, and outlives restarts of the
API server; while that is away, requests are answered with `Away`.
"""

from __future__ import annotations

import http.client
import json
import re
import selectors
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import host

START_S_MAX = 20.0
REQUEST_S_MAX = 5.0
END_S_MAX = 5.0
_SERVING = re.compile(rb"Starting to serve on (127\.0\.0\.1:\d+)")


class Away(host.KitError):
    """The API server did not answer, or not as it does when it is well; ask again."""


@dataclass(frozen=True)
class Api:
    """An API server at `host:port` without TLS."""

    address: str

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Status and text of an answer; raises Away."""
        connection = http.client.HTTPConnection(self.address, timeout=REQUEST_S_MAX)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """An object; raises Away where the API server is not well, KitError where it refuses."""
        status, text = self.ask("GET", path)
        _check("GET", path, status, text)
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise Away(f"GET {path}: {text[:200]!r} is no JSON") from error
        return found

    def delete(self, path: str) -> None:
        """Delete an object; raises Away, KitError."""
        status, text = self.ask("DELETE", path)
        _check("DELETE", path, status, text)


def _check(method: str, path: str, status: int, text: str) -> None:
    if status < 300:
        return
    told = f"{method} {path} was answered with {status}: {text.strip()[:300]}"
    raise Away(told) if status >= 500 or status == 429 else host.KitError(told)


@contextmanager
def proxied(kubectl: Path) -> Iterator[Api]:
    """The API server of KUBECONFIG while inside; raises KitError when there is no way to it."""
    command = [str(kubectl), "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield Api(_address(process))
        finally:
            process.terminate()
            try:
                process.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes]) -> str:
    """Where the proxy listens, as its first line tells."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        if not ready.select(START_S_MAX):
            raise host.KitError(f"`kubectl proxy` said nothing within {START_S_MAX:g} s")
    said = process.stdout.readline()
    found = _SERVING.match(said)
    if found is None:
        process.terminate()
        complaint = (said + process.stderr.read()).decode(errors="replace").strip()
        raise host.KitError(f"`kubectl proxy` did not begin: {complaint[-800:]}")
    return found[1].decode()
