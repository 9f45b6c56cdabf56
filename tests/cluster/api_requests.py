"""Requests to the API server through `kubectl proxy`.

Some callers send many requests a second, and starting kubectl for each of them would cost too
much.  The proxy has the rights of KUBECONFIG, listens on this machine only, and keeps running when
the API server restarts; while the API server is down, a request raises `Away`.
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

from tests.cluster import commands_here

START_S_MAX = 20.0
REQUEST_S_MAX = 5.0
END_S_MAX = 5.0
_SERVING = re.compile(rb"Starting to serve on (127\.0\.0\.1:\d+)")


class Away(commands_here.KitError):
    """The API server did not answer or answered with a temporary error; the caller may retry."""


@dataclass(frozen=True)
class Api:
    """An API server that is reached at an address "host:port" without TLS."""

    address: str

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Send a request; return the HTTP status and the body.  Raises Away."""
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
        """Return the JSON object at a path.

        Raises Away for a temporary error (see `Away`), KitError when the API server refuses.
        """
        status, text = self.ask("GET", path)
        _check("GET", path, status, text)
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise Away(f"GET {path}: the answer {text[:200]!r} is no JSON") from error
        return found

    def delete(self, path: str) -> None:
        """Delete the object at a path; raises Away or KitError as `get` does."""
        status, text = self.ask("DELETE", path)
        _check("DELETE", path, status, text)


def _check(method: str, path: str, status: int, text: str) -> None:
    if status < 300:
        return
    message = f"{method} {path} was answered with {status}: {text.strip()[:300]}"
    raise Away(message) if status >= 500 or status == 429 else commands_here.KitError(message)


@contextmanager
def proxied(kubectl: Path) -> Iterator[Api]:
    """Run `kubectl proxy` inside the block and return access to KUBECONFIG's API server.

    Raises KitError when the proxy does not start.
    """
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
    """Return the address where the proxy listens, from the first line of its output."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        if not ready.select(START_S_MAX):
            raise commands_here.KitError(
                f"`kubectl proxy` printed nothing within {START_S_MAX:g} s"
            )
    first_line = process.stdout.readline()
    found = _SERVING.match(first_line)
    if found is None:
        process.terminate()
        complaint = (first_line + process.stderr.read()).decode(errors="replace").strip()
        raise commands_here.KitError(f"`kubectl proxy` did not start: {complaint[-800:]}")
    return found[1].decode()
