"""The blocking client: it runs the asynchronous client on an event loop in a thread of its own.

    with Client.connect("127.0.0.1:7400", directory="certs") as client:
        client.append([Tick("demo/a", 1, 1.0)])

Every method calls the same method of `AsyncClient` and waits for its result.  A client may be used
from several threads.  An interrupt (Ctrl-C) cancels the request; the client remains usable.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from midstreamer.client.api import (
    DEFAULT_ADDRESS,
    DEFAULT_DEADLINE_S,
    PORT,
    TRUST_DOMAIN,
    AsyncClient,
)
from midstreamer.client.request_retries import Receipt
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import Column, Floats, Tick, Window
from midstreamer.domain.specification import Specification
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level
from midstreamer.runtime.peer import LINK_AGE_S
from midstreamer.security.credentials import CredentialSource

ResultT = TypeVar("ResultT")


class Client:
    """A client of one fleet for code without an event loop; use it with ``with``."""

    def __init__(self, client: AsyncClient) -> None:
        self.asynchronous = client
        """The asynchronous client that does the work; use it only inside `call`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def connect(
        cls,
        addresses: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        directory: str | Path | None = None,
        identity: str = "",
        credentials: CredentialSource | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        link_age_s: float = LINK_AGE_S,
        proxy: str = "",
    ) -> Self:
        """Return a client that uses a certificate; see `AsyncClient.connect`."""
        client = AsyncClient.connect(
            addresses,
            directory=directory,
            identity=identity,
            credentials=credentials,
            deadline_s=deadline_s,
            link_age_s=link_age_s,
            proxy=proxy,
        )
        return cls(client)

    @classmethod
    def in_cluster(
        cls,
        namespace: str,
        release: str,
        *,
        trust_domain: str = TRUST_DOMAIN,
        port: int = PORT,
        deadline_s: float = DEFAULT_DEADLINE_S,
        link_age_s: float = LINK_AGE_S,
    ) -> Self:
        """Return a client for a pod in the cluster of the fleet; see `AsyncClient.in_cluster`."""
        client = AsyncClient.in_cluster(
            namespace,
            release,
            trust_domain=trust_domain,
            port=port,
            deadline_s=deadline_s,
            link_age_s=link_age_s,
        )
        return cls(client)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="midstreamer.client", daemon=True
        )
        self._thread.start()
        try:
            self.call(self.asynchronous.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every link and end the thread; safe to call twice."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self.call(self.asynchronous.close())
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine on the event loop of the client, wait for it and return its result."""
        if self._loop is None:
            work.close()
            raise BadInput("the client is not open: use `with Client.connect(...)`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    @property
    def position(self) -> int:
        """The highest feed position that an answer has had so far."""
        return self.asynchronous.position

    def append(
        self, ticks: Iterable[Tick | Column], *, level: Level | str = Level.DURABLE
    ) -> Receipt:
        """Append ticks to the stored series; see `AsyncClient.append`."""
        return self.call(self.asynchronous.append(ticks, level=level))

    def match(
        self,
        series: str,
        time: int,
        values: Iterable[float] | Floats,
        specification: Specification,
        *,
        record: bool = True,
    ) -> Decision:
        """Decide about one window; see `AsyncClient.match`."""
        return self.call(
            self.asynchronous.match(series, time, values, specification, record=record)
        )

    def match_many(
        self,
        windows: Sequence[Window],
        specification: Specification,
        *,
        level: Level | str = Level.DURABLE,
        record: bool = True,
    ) -> list[Decision]:
        """Decide about several windows; see `AsyncClient.match_many`."""
        return self.call(
            self.asynchronous.match_many(windows, specification, level=level, record=record)
        )

    def lookup(self, experience_ids: Iterable[bytes]) -> frames.Experiences:
        """Return the stored decisions and verdicts of experiences; see `AsyncClient.lookup`."""
        return self.call(self.asynchronous.lookup(experience_ids))

    def survey(self) -> frames.Surveyed:
        """Return all series, the members and the counts; see `AsyncClient.survey`."""
        return self.call(self.asynchronous.survey())
