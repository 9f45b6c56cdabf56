"""Serve metrics and health probes over a minimal HTTP/1.1.

``/readyz`` answers 200 while the process serves: it answers requests, or refuses them with a named
error.  ``/completez`` answers 200 while the process has everything that it needs.  A missing part
does not make a process unready; otherwise one missing shard would take all coordinators out of DNS
at once.

A check is a function that returns "" when all is well, else the reason in one line.  The answer of
``/readyz`` has further lines for missing parts and for warnings.  A warning names something that an
operator should correct, such as a wrong certificate file.  It does not change the status, because
the process goes on with the last good file; if a wrong file made a process unready, one bad edit of
a shared file would stop the whole fleet.

Only probes and scrapers connect.  A request is read up to the empty line, within a limit of bytes
and seconds; a body is ignored; the connection is closed after the answer.  There is no
authentication: the server listens on loopback by default, and its answers name no peer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import loop_lag
from midstreamer.telemetry import logs, metrics

HEAD_BYTES_MAX = 8192
"""Maximum bytes of a request's head: the request line and all headers."""
REQUEST_S = 5.0
"""Maximum seconds for a connection, from its opening to the end of its answer."""
CONNECTIONS_MAX = 32
"""Maximum connections that are answered at once; more connections wait."""

Check = Callable[[], str]
Warnings = Callable[[], Sequence[str]]

log = logs.get(__name__)


def well() -> str:
    """Return "": a check that always passes."""
    return ""


def unwarned() -> Sequence[str]:
    """Return no warnings."""
    return ()


@dataclass(frozen=True)
class Checks:
    """The functions that decide the answers of the probes of one process."""

    ready: Check
    complete: Check = well
    live: Check = well
    warnings: Warnings = unwarned


class Response(NamedTuple):
    """One HTTP response."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def respond(head: bytes, checks: Checks) -> Response:
    """Return the response to one request.

    ``head`` are the request line and headers. This function does no I/O, but it calls the checks.
    """
    line = head.split(b"\r\n", 1)[0].split(b" ")
    if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
        return Response(400, b"not an HTTP/1.1 request\n")
    method, target, _ = line
    if method not in (b"GET", b"HEAD"):
        return Response(405, b"only GET and HEAD\n")
    match target.split(b"?", 1)[0]:
        case b"/metrics":
            metrics.COMPLETE.set(float(not checks.complete()))
            return Response(200, *metrics.render_for(_accepted(head)))
        case b"/livez":
            return _checked(checks.live)
        case b"/readyz":
            return _readiness(checks)
        case b"/completez":
            return _checked(checks.complete)
        case _:
            return Response(404, b"known: /metrics /livez /readyz /completez\n")


def _accepted(head: bytes) -> str:
    """Return the values of all ``Accept`` headers of a request, joined by commas."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    fields = (line.partition(":") for line in lines)
    return ",".join(value for name, _, value in fields if name.strip().lower() == "accept")


def _checked(check: Check) -> Response:
    reason = check()
    return Response(503, f"{reason}\n".encode()) if reason else Response(200, b"ok\n")


def _readiness(checks: Checks) -> Response:
    response, missing = _checked(checks.ready), checks.complete()
    lines = [f"warning: {warning}\n" for warning in checks.warnings()]
    if missing and response.status == 200:
        lines.insert(0, f"incomplete: {missing}\n")
    return response._replace(body=response.body + "".join(lines).encode())


def render(response: Response, *, body: bool) -> bytes:
    """Return the bytes of a response; without ``body`` (for HEAD), its headers alone."""
    allow = "Allow: GET, HEAD\r\n" if response.status == 405 else ""
    head = (
        f"HTTP/1.1 {response.status} {REASONS[response.status]}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n{allow}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (response.body if body else b"")


@contextlib.asynccontextmanager
async def served(listen: str | None, checks: Checks) -> AsyncIterator[str]:
    """Serve probes and metrics at ``listen`` while the block runs; yield the bound address.

    Does nothing and yields "" when ``listen`` is None.  Also measures the lag of the event loop
    while the block runs, for the metrics that are served here.  Raises ConfigError if the address
    cannot be bound.
    """
    if listen is None:
        yield ""
        return
    guests = asyncio.Semaphore(CONNECTIONS_MAX)

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S), guests:
                await _converse(reader, writer, checks)
        except (TimeoutError, OSError):
            log.debug("health.abandoned")
        finally:
            writer.close()

    host, _, port = listen.rpartition(":")
    try:
        server = await asyncio.start_server(
            guest, host.strip("[]"), int(port), limit=HEAD_BYTES_MAX
        )
    except OSError as error:
        raise ConfigError(
            f"telemetry.listen = {listen}: {error.strerror or error}; choose another port, or"
            " port 0 for any free port"
        ) from error
    bound = server.sockets[0].getsockname()
    address = f"{bound[0]}:{bound[1]}"
    log.info("health.opened", address=address)
    try:
        with loop_lag.watched():
            yield address
    finally:
        server.close()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, checks: Checks
) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        head, response = b"", Response(431, b"request head too large\n")
    except asyncio.IncompleteReadError:
        head, response = b"", Response(400, b"request ended early\n")
    else:
        response = respond(head, checks)
    writer.write(render(response, body=not head.startswith(b"HEAD ")))
    await writer.drain()
