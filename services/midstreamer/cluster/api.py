"""A small client of the Kubernetes API: requests and watches.

It uses HTTP/1.1 by h11 over TLS streams.  That is enough for a few requests a day, and each
existing Kubernetes library would more than double the memory of a pod.

Up to `IDLE_MAX` idle connections are kept for `IDLE_S` seconds.  If the server has closed an idle
connection, the request on it fails and is retried on a new connection.  A POST always uses a new
connection, because it must not be sent twice.

An answer is returned whatever its status, because callers expect statuses such as 404 and 409;
`Answer.checked` raises an error for statuses that the caller does not expect.  Unavailable is
raised when there is no answer.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import urlencode

import h11

from midstreamer.cluster.service_account import Account, Proxied
from midstreamer.domain.errors import (
    BadInput,
    MidstreamerError,
    Overloaded,
    Refused,
    Unavailable,
    shortened,
)

Object: TypeAlias = dict[str, Any]
"""An object of the API, as parsed from JSON."""

CONNECT_S = 5.0
"""Maximum seconds for opening a connection."""
REQUEST_S = 10.0
"""Maximum seconds for one request and its answer."""
IDLE_S = 20.0
"""Seconds for which an idle connection is kept."""
IDLE_MAX = 4
"""Default of the maximum number of idle connections that a client keeps."""
SILENCE_S = 15.0
"""Additional seconds for which a client waits when the requested time of a watch is over. The
server should end the watch at that time; if it does not, the client ends it."""
HEAD_BYTES_MAX = 64 * 1024
"""Maximum bytes of the headers of an answer."""
BODY_BYTES_MAX = 32 * 1024 * 1024
"""Maximum bytes of the body of an answer, and of one line of a watch."""
READ_BYTES = 64 * 1024
RETRY_S = 1.0
"""Seconds after which a caller may retry, if the server does not say."""
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""Content type of every PATCH. It requests server-side apply, for which the body must contain all
fields of the object that this project manages. The body is JSON, which is valid YAML too."""


@dataclass(frozen=True)
class Answer:
    """Answer of the API server to one request."""

    asked: str
    """Method and path of the request, for messages."""
    status: int
    body: Object
    retry_after_s: float = 0.0
    who: str = "this service account"
    """Name of the account that sent the request, for messages."""

    def checked(self, allowed: Collection[int] = (200, 201)) -> Object:
        """Return the body if the status is in ``allowed``; if not, raise the result of `error`."""
        if self.status in allowed:
            return self.body
        raise self.error()

    def error(self) -> MidstreamerError:
        """Return the error for this answer.  Its message has the request, the status and the text
        of the server."""
        text = f"{self.asked}: the API server answers {self.status}: {self._message()}"
        match self.status:
            case 401:
                return Refused(f"{text}; the token has expired, or its pod was deleted")
            case 403:
                return Refused(f"{self._wide()}{text}; the role of {self.who} must allow it")
            case 429:
                return Overloaded(text, retry_after_s=self.retry_after_s or RETRY_S)
            case status if status >= 500:
                return Unavailable(text, retry_after_s=self.retry_after_s or RETRY_S)
        return BadInput(text)

    def _wide(self) -> str:
        """Return a hint for a refused request about certificate signing requests: it says how an
        administrator grants the right.  Signing requests are in no namespace, so the role of a
        namespace cannot grant it.  Return "" for any other request."""
        if "/certificates.k8s.io/" not in self.asked or "/namespaces/" in self.asked:
            return ""
        return (
            "an administrator gives this right, by installations of the chart midstreamer-cluster; "
        )

    def _message(self) -> str:
        return shortened(str(self.body.get("message") or "without a message"), 500)


class Change(NamedTuple):
    """One event of a watch: an object was added, changed or deleted, or the watch failed."""

    type: str
    """ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR; with ERROR, the object describes the error."""
    object: Object


class Api(Protocol):
    """The requests to the Kubernetes API that this project uses."""

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return its answer; Unavailable if there is none within `REQUEST_S`."""

    def watch(
        self, path: str, query: Mapping[str, str], *, lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """Yield the existing objects, then each change, for ``lasts_s`` seconds.

        A caller that stops earlier must close the generator, as with `contextlib.aclosing`.
        """


class Client:
    """Implementation of `Api` over HTTP; call `close`, or use it with ``async with``."""

    def __init__(self, account: Account | Proxied, *, idle_max: int = IDLE_MAX) -> None:
        """Keep at most ``idle_max`` idle connections.

        Raises ConfigError if the certificate of the cluster's authority cannot be read.
        """
        self._account = account
        self._idle_max = idle_max
        self._tls = account.trust() if isinstance(account, Account) else None
        self._idle: deque[_Connection] = deque()

    async def __aenter__(self) -> Client:
        """Return the client.  It opens a connection only when a request needs one."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all idle connections."""
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return its answer; Unavailable if there is none within `REQUEST_S`."""
        request = _Request(method, path, query or {}, body)
        with self._translated(request):
            async with asyncio.timeout(REQUEST_S):
                kept = None if method == "POST" else self._kept()
                if kept is not None:
                    try:
                        return await self._asked(kept, request)
                    except (OSError, h11.ProtocolError, EOFError):
                        pass  # the server closed the idle connection: retry on a new one
                return await self._asked(await self._opened(), request)

    async def watch(
        self, path: str, query: Mapping[str, str], *, lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """Yield the existing objects, then each change, for ``lasts_s`` seconds."""
        wanted = {**query, "watch": "1", "timeoutSeconds": str(max(1, int(lasts_s)))}
        request = _Request("GET", path, wanted, None)
        until_s = asyncio.get_running_loop().time() + lasts_s + SILENCE_S
        # Do not put a timeout around `yield`: it would cancel the code of the caller.
        with self._translated(request):
            async with self._begun(request) as connection:
                async with asyncio.timeout(REQUEST_S):
                    head = await connection.answered()
                    if head.status_code != 200:
                        body = await connection.whole()
                        answer = Answer(
                            request.told, head.status_code, _object(body), who=self._account.who
                        )
                        raise answer.error()
                lines = connection.lines()
                while True:
                    async with asyncio.timeout_at(until_s):
                        line = await anext(lines, None)
                    if line is None:
                        return
                    change = _object(line)
                    yield Change(str(change.get("type")), change.get("object") or {})

    @asynccontextmanager
    async def _begun(self, request: _Request) -> AsyncIterator[_Connection]:
        connection = await self._opened()
        try:
            await connection.send(request, self._account)
            yield connection
        finally:
            connection.close()

    async def _asked(self, connection: _Connection, request: _Request) -> Answer:
        try:
            await connection.send(request, self._account)
            head = await connection.answered()
            body = _object(await connection.whole())
            answer = Answer(request.told, head.status_code, body, _pause(head), self._account.who)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return answer

    async def _opened(self) -> _Connection:
        async with asyncio.timeout(CONNECT_S):
            if isinstance(self._account, Proxied):
                place = self._account.path
                reader, writer = await asyncio.open_unix_connection(place, limit=READ_BYTES)
            else:
                reader, writer = await asyncio.open_connection(
                    self._account.host,
                    self._account.port,
                    ssl=self._tls,
                    limit=READ_BYTES,
                    ssl_handshake_timeout=CONNECT_S,
                )
        return _Connection(reader, writer)

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        if not connection.again() or len(self._idle) >= self._idle_max:
            connection.close()
        else:
            self._idle.append(connection)

    def _translated(self, request: _Request) -> _Translated:
        return _Translated(request.told, self._account.server)


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    body: Object | None

    @property
    def told(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class _Connection:
    """One HTTP/1.1 connection to the API server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._since_s = 0.0

    async def send(self, request: _Request, account: Account | Proxied) -> None:
        body = b"" if request.body is None else json.dumps(request.body).encode()
        headers = [
            *account.headers(),
            ("Accept", "application/json"),
            ("User-Agent", "midstreamer"),
        ]
        if body:
            headers.append(("Content-Type", APPLY if request.method == "PATCH" else JSON))
            headers.append(("Content-Length", str(len(body))))
        sent = self._http.send(
            h11.Request(method=request.method, target=request.target, headers=headers)
        )
        self._writer.write(sent or b"")
        if body:
            self._writer.write(self._http.send(h11.Data(data=body)) or b"")
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()

    async def answered(self) -> h11.Response:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.ConnectionClosed):
                raise EOFError("the connection ended before the answer")  # noqa: TRY004 - it did

    async def data(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def whole(self) -> bytes:
        body = bytearray()
        async for piece in self.data():
            body += piece
            _check_size(body)
        return bytes(body)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield each complete line of a streamed body; an incomplete last line is dropped."""
        rest = bytearray()
        async for piece in self.data():
            rest += piece
            _check_size(rest)
            *lines, last = rest.split(b"\n")
            for line in lines:
                if line:
                    yield bytes(line)
            rest = last

    def again(self) -> bool:
        """Prepare the connection for its next request, and return True.  Return False if this is
        impossible, because the last request or its answer is not complete."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._since_s = asyncio.get_running_loop().time()
        return True

    def is_fresh(self) -> bool:
        idle_s = asyncio.get_running_loop().time() - self._since_s
        return idle_s < IDLE_S and not self._reader.at_eof()

    def close(self) -> None:
        # Abort the connection, because the caller needs no further answer.  With an orderly TLS
        # close, the caller would have to wait.
        self._writer.transport.abort()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_BYTES))
        return event


@dataclass(frozen=True)
class _Translated:
    """Context manager that turns errors of a connection into Unavailable."""

    told: str
    server: str

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        why = _why(error)
        if why:
            raise Unavailable(
                f"{self.told}: the API server at {self.server} {why}", retry_after_s=RETRY_S
            ) from error


def _why(error: BaseException | None) -> str:
    """Return what went wrong, as the end of a sentence that begins "the API server at <address>".
    Return "" if the error is not an error of the connection."""
    match error:
        case TimeoutError():
            return "did not answer in time"
        case ssl.SSLCertVerificationError():
            return f"is not certified by the cluster's authority: {error.verify_message}"
        case h11.ProtocolError() | EOFError():
            return f"violated the HTTP protocol: {error}"
        case OSError():
            return f"cannot be reached: {error.strerror or error}"
    return ""


def _check_size(body: bytearray) -> None:
    if len(body) > BODY_BYTES_MAX:
        raise EOFError(f"the answer has more than {BODY_BYTES_MAX:,} bytes")


def _object(body: bytes) -> Object:
    """Return the JSON object in a body.  If the body is any other text, such as a proxy's answer,
    return an object with the text as its ``message``."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"message": body.decode("utf-8", "replace")}


def _pause(head: h11.Response) -> float:
    for name, value in head.headers:
        if name == b"retry-after" and value.isdigit():
            return float(value)
    return 0.0
