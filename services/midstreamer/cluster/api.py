"""A small client of the Kubernetes API: ask, and watch.

It speaks HTTP/1.1 through h11 over TLS streams.  Nothing more is needed for a few requests a day,
and each library for Kubernetes would more than double what a pod holds in memory.

Connections are kept for the next request, a few of them for `IDLE_S` seconds.  One
that the server has closed meanwhile is noticed at the first byte: what may be asked twice is then
asked again on a new one.  A POST always gets a new connection, because it may not.

What the server answers is returned whatever its status, since 404 and 409 are answers like any
other; `Answer.checked` turns the rest into errors.  What is no answer is raised as Unavailable.
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

from midstreamer.cluster.account import Account, Proxied
from midstreamer.domain.errors import (
    BadInput,
    MidstreamerError,
    Overloaded,
    Refused,
    Unavailable,
    shortened,
)

Object: TypeAlias = dict[str, Any]
"""An object of the API as JSON has it."""

CONNECT_S = 5.0
REQUEST_S = 10.0
IDLE_S = 20.0
IDLE_MAX = 4
SILENCE_S = 15.0
"""A watch may be silent so much longer than it was asked to last."""
HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 32 * 1024 * 1024
"""Of an answer, and of one line of a watch."""
READ_BYTES = 64 * 1024
RETRY_S = 1.0
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""A PATCH here is always server-side apply: the whole of what we want of an object, as JSON."""


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    asked: str
    """Method and path, for messages."""
    status: int
    body: Object
    retry_after_s: float = 0.0
    who: str = "this service account"
    """Who asked, for messages."""

    def checked(self, allowed: Collection[int] = (200, 201)) -> Object:
        """The body when the status is one of these; else the error that the answer stands for."""
        if self.status in allowed:
            return self.body
        raise self.error()

    def error(self) -> MidstreamerError:
        """The answer as an error: what was asked, the status, and what the server says of it."""
        told = f"{self.asked}: the API server answers {self.status}: {self._message()}"
        match self.status:
            case 401:
                return Refused(f"{told}; the token is of a pod that is gone, or has expired")
            case 403:
                return Refused(f"{self._wide()}{told}; the role of {self.who} must allow it")
            case 429:
                return Overloaded(told, retry_after_s=self.retry_after_s or RETRY_S)
            case status if status >= 500:
                return Unavailable(told, retry_after_s=self.retry_after_s or RETRY_S)
        return BadInput(told)

    def _wide(self) -> str:
        """Whose right is missing, where it is one of the cluster: it is the administrator's."""
        if "/certificates.k8s.io/" not in self.asked or "/namespaces/" in self.asked:
            return ""
        return (
            "an administrator gives this right, by installations of the chart midstreamer-cluster; "
        )

    def _message(self) -> str:
        return shortened(str(self.body.get("message") or "without a message"), 500)


class Change(NamedTuple):
    """One event of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR: then the object says what is wrong."""
    object: Object


class Api(Protocol):
    """The Kubernetes API, as far as it is used here."""

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its answer, within `REQUEST_S`; Unavailable when there is none."""

    def watch(
        self, path: str, query: Mapping[str, str], *, lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """What changes, beginning with what is there; ends after ``lasts_s`` seconds.

        Whoever stops before its end closes it, as with `contextlib.aclosing`.
        """


class Client:
    """The `Api` of a real server; to be closed, or used with ``async with``."""

    def __init__(self, account: Account | Proxied, *, idle_max: int = IDLE_MAX) -> None:
        """``idle_max`` connections are kept; ConfigError without the cluster's authority."""
        self._account = account
        self._idle_max = idle_max
        self._tls = account.trust() if isinstance(account, Account) else None
        self._idle: deque[_Connection] = deque()

    async def __aenter__(self) -> Client:
        """Nothing is opened before the first request."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what is open."""
        self.close()

    def close(self) -> None:
        """Close all connections that wait for their next request."""
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
        """One request and its answer, within `REQUEST_S`; Unavailable when there is none."""
        request = _Request(method, path, query or {}, body)
        with self._translated(request):
            async with asyncio.timeout(REQUEST_S):
                kept = None if method == "POST" else self._kept()
                if kept is not None:
                    try:
                        return await self._asked(kept, request)
                    except (OSError, h11.ProtocolError, EOFError):
                        pass  # closed by the server while it was idle: ask on a new one
                return await self._asked(await self._opened(), request)

    async def watch(
        self, path: str, query: Mapping[str, str], *, lasts_s: float
    ) -> AsyncGenerator[Change, None]:
        """What changes, beginning with what is there; ends after ``lasts_s`` seconds."""
        wanted = {**query, "watch": "1", "timeoutSeconds": str(max(1, int(lasts_s)))}
        request = _Request("GET", path, wanted, None)
        until_s = asyncio.get_running_loop().time() + lasts_s + SILENCE_S
        # No deadline may span a `yield`: it would cancel whoever reads, in the middle of his work.
        with self._translated(request):
            async with self._begun(request) as connection:
                async with asyncio.timeout(REQUEST_S):
                    head = await connection.answered()
                    if head.status_code != 200:
                        body = await connection.whole()
                        told = Answer(
                            request.told, head.status_code, _object(body), who=self._account.who
                        )
                        raise told.error()
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
    """One connection, and where it is in HTTP/1.1."""

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
        """Each line of a body that never ends; what stands before its end is no line."""
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
        """Get ready for the next request; whether there can be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._since_s = asyncio.get_running_loop().time()
        return True

    def is_fresh(self) -> bool:
        idle_s = asyncio.get_running_loop().time() - self._since_s
        return idle_s < IDLE_S and not self._reader.at_eof()

    def close(self) -> None:
        # At once: nothing is under way any more, or nobody wants it, and whoever closes does not
        # stay to see TLS say goodbye.
        self._writer.transport.abort()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_BYTES))
        return event


@dataclass(frozen=True)
class _Translated:
    """What goes wrong between us and the server, in words of ours."""

    told: str
    server: str

    def __enter__(self) -> None:
        """Nothing to prepare."""

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
    """What is wrong, or nothing when it is not for us to say."""
    match error:
        case TimeoutError():
            return "has not answered in time"
        case ssl.SSLCertVerificationError():
            return f"is not certified by the cluster's authority: {error.verify_message}"
        case h11.ProtocolError() | EOFError():
            return f"does not speak HTTP as it should: {error}"
        case OSError():
            return f"cannot be reached: {error.strerror or error}"
    return ""


def _check_size(body: bytearray) -> None:
    if len(body) > BODY_BYTES_MAX:
        raise EOFError(f"an answer of more than {BODY_BYTES_MAX:,} bytes")


def _object(body: bytes) -> Object:
    """The JSON object of a body; text, as proxies and pods behind them answer, is its message."""
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"message": body.decode("utf-8", "replace")}


def _pause(head: h11.Response) -> float:
    for name, value in head.headers:
        if name == b"retry-after" and value.isdigit():
            return float(value)
    return 0.0
