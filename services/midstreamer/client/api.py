"""The asynchronous client: append ticks and get decisions, over persistent links to coordinators.

    async with AsyncClient.connect("127.0.0.1:7400", directory="certs") as client:
        await client.append([Tick("demo/a", 1, 1.0)])
        decision = await client.match("demo/a", 1, values, specification)

Links to several coordinators are kept open in the background (`client.links`).  A request goes to
the coordinator that answered last, and is retried at another one when it fails
(`client.request_retries`). With each Match the client sends the highest feed position it has
seen, so that it reads its own writes at every coordinator.  The client stores no series: the caller
supplies the windows.
"""

from __future__ import annotations

import asyncio
import random
import time as clocks
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from midstreamer.client import request_retries
from midstreamer.client.links import Links, NobodyThere
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import (
    BadInput,
    DeadlineExceeded,
    LocalProtocolError,
    MidstreamerError,
)
from midstreamer.domain.series import Column, Floats, Tick, Window, column
from midstreamer.domain.series import window as make_window
from midstreamer.domain.specification import Specification, check
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Level
from midstreamer.runtime import catalogue_pages, credential_renewal
from midstreamer.runtime.peer import LINK_AGE_S
from midstreamer.security.credentials import CredentialSource, Renewed
from midstreamer.telemetry import tracing
from midstreamer.transport.carrier import Carrier

DEFAULT_ADDRESS = "127.0.0.1:7400"
DEFAULT_DEADLINE_S = 30.0
TRUST_DOMAIN, PORT = "midstreamer.local", 7400
"""Default trust domain of a fleet, and default port of its coordinators. The values ``trustDomain``
and ``coordinator.port`` of the Helm chart can change them."""

AnswerT = TypeVar("AnswerT", bound=frames.Answer)
ResultT = TypeVar("ResultT")


class AsyncClient:
    """A client of one fleet; use it with ``async with``."""

    def __init__(
        self,
        carrier: Carrier | None,
        addresses: Sequence[str],
        *,
        credentials: CredentialSource | None = None,
        proxy: str = "",
        deadline_s: float = DEFAULT_DEADLINE_S,
        policy: request_retries.Policy | None = None,
        link_age_s: float = LINK_AGE_S,
    ) -> None:
        if not addresses:
            raise BadInput("a client needs the address of at least one coordinator, host:port")
        self.addresses = tuple(addresses)
        self.deadline_s = deadline_s
        """Timeout of one call in seconds, including all retries; may be changed between calls."""
        self.on_retry: Callable[[MidstreamerError, float], None] | None = None
        """Called with the error of a failed attempt and the seconds until the next attempt, for
        progress displays."""
        self._policy = policy or request_retries.Policy()
        self._source = credentials
        make = _maker(carrier, credentials, proxy)
        self._links = Links(make, self.addresses, link_age_s=link_age_s)
        self._ends = AsyncExitStack()
        self._position = request_retries.Position()
        self._dice = random.Random()  # noqa: S311 - jitter, not a secret

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
        """Return a client that uses a certificate; it connects on entering ``async with``.

        ``directory`` is the folder that ``midstreamer certs issue client/<id>`` wrote; ``identity``
        (``client/<id>``) selects one of several certificates there.  Instead of both, pass
        ``credentials``: a source such as `RequestedSource`, whose key is in no file.  Entering then
        waits up to ``deadline_s`` seconds for the first certificate, and the client renews the
        certificate until it is closed.  Each link is replaced after about ``link_age_s`` seconds,
        without failing a request.

        For an address ``host:port`` the client uses QUIC, and for ``wss://host:port`` WebSocket.
        For ``quic+wss://host:port`` it uses QUIC, or WebSocket where the network drops UDP.
        ``proxy`` is the HTTP proxy for WebSocket: ``http://host:port``, empty for none, or
        ``environment`` for the proxy that the environment variables name.
        """
        several = [addresses] if isinstance(addresses, str) else list(addresses)
        carrier = _by_files(directory, identity, credentials, proxy)
        return cls(
            carrier,
            several,
            credentials=credentials,
            proxy=proxy,
            deadline_s=deadline_s,
            link_age_s=link_age_s,
        )

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
        """Return a client for a pod in the cluster of the fleet; ConfigError outside a pod.

        ``namespace`` and ``release`` are those of the fleet's Helm release; ``trust_domain`` and
        ``port`` are its values ``trustDomain`` and ``coordinator.port``.  The identity is
        ``client/<namespace>/<pod>/<uid>`` of this pod.  The private key never leaves the memory of
        the client; the operator of the fleet issues the certificate, and the client renews it.

        Entering ``async with`` waits for the first certificate.  After ``deadline_s`` seconds
        without one, it raises DeadlineExceeded.  The message gives the reason, such as a refusal
        by the operator.
        """
        import midstreamer.client.in_cluster as in_cluster  # imported late, because it loads h11

        requested = in_cluster.source(namespace, release, trust_domain)
        return cls.connect(
            in_cluster.address(namespace, release, port),
            credentials=requested,
            deadline_s=deadline_s,
            link_age_s=link_age_s,
        )

    async def __aenter__(self) -> Self:
        if self._source is not None:
            await self._keep(self._source)
        tracing.adopt()
        self._links.open()
        return self

    async def _keep(self, source: CredentialSource) -> None:
        request_retries.check_deadline(self.deadline_s)
        waiting = ""

        def look() -> None:
            nonlocal waiting
            waiting = source.waiting if isinstance(source, Renewed) else ""

        # At the deadline, `look` saves why the source still waits, for the error message.  It must
        # run before the timeout cancels the source: a cancelled source no longer knows the reason.
        looking = asyncio.get_running_loop().call_later(self.deadline_s, look)
        try:
            async with asyncio.timeout(self.deadline_s) as limit:
                await self._ends.enter_async_context(credential_renewal.kept(source))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                f"no certificate for {source.identity.name} within"
                f" deadline_s = {self.deadline_s:g} s: {waiting}"
            ) from error
        finally:
            looking.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every link; safe to call twice."""
        try:
            await self._links.close()
        finally:
            await self._ends.aclose()

    @property
    def position(self) -> int:
        """Highest feed position in all answers that this client has got.  Every durable write of
        this client is at or before this position."""
        return self._position.highest

    async def reach(self, within_s: float) -> None:
        """Return once a coordinator is connected; raise Unavailable or Refused after at most
        ``within_s`` seconds.

        Other calls retry until their deadline, because a fleet may be restarting.  Call `reach`
        first where a user waits at a terminal and should learn of a wrong address at once.
        """
        try:
            await self._links.reached(within_s, once=True)
        except NobodyThere as error:
            raise request_retries.nobody_there(error.errors) from None

    async def append(
        self, ticks: Iterable[Tick | Column], *, level: Level | str = Level.DURABLE
    ) -> request_retries.Receipt:
        """Append ticks to the stored series.  Ticks that are stored already are not stored again;
        the Receipt counts them as ``repeated``.

        ``ticks`` are ticks in time order, or columns (`midstreamer.column`).  ``level`` says how
        far the ticks must be stored before this method returns.
        """
        level = Level(level)
        answers = []
        for group in request_retries.split_columns(_columns(ticks)):
            request = frames.Append(columns=group, level=level)
            answers.append(await self._ask("append", request, frames.Appended))
        return request_retries.receipt(answers, level)

    async def match(
        self,
        series: str,
        time: int,
        values: Iterable[float] | Floats,
        specification: Specification,
        *,
        record: bool = True,
    ) -> Decision:
        """Return the decision about one window.  ``values`` are the last values of ``series``, and
        ``time`` is the time of the newest of them.

        With ``record``, the fleet stores the decision.
        """
        window = make_window(values, series=series, time=time)
        return (await self.match_many([window], specification, record=record))[0]

    async def match_many(
        self,
        windows: Sequence[Window],
        specification: Specification,
        *,
        level: Level | str = Level.DURABLE,
        record: bool = True,
    ) -> list[Decision]:
        """Return one decision for each window, in the order of the windows.

        Windows of the same time are searched together, which is faster.  With ``record``, the
        decisions are stored; ``level`` says how far they must be stored before this method returns.
        """
        check(specification)
        request_retries.check_windows(specification, windows)
        decisions: list[Decision] = []
        for group in request_retries.split_windows(specification, windows):
            request = frames.Match(
                specification=specification,
                windows=group,
                at_least=self._position.highest,
                level=Level(level),
                record=record,
            )
            decisions += (await self._ask("match", request, frames.Matched)).decisions
        return decisions

    async def lookup(self, experience_ids: Iterable[bytes]) -> frames.Experiences:
        """Return the stored decisions of these experiences, and their verdicts once known."""
        wanted = tuple(experience_ids)
        decisions: list[Decision] = []
        verdicts: list[Verdict] = []
        while wanted:
            asked, rest = (
                wanted[: request_retries.IDS_PER_LOOKUP],
                wanted[request_retries.IDS_PER_LOOKUP :],
            )
            request = frames.Lookup(experience_ids=asked)
            found = await self._ask("lookup", request, frames.Experiences)
            wanted = (*request_retries.left_of(found, asked), *rest)
            decisions += found.decisions
            verdicts += found.verdicts
        return frames.Experiences(
            decisions=tuple(decisions), verdicts=tuple(verdicts), position=self.position
        )

    async def survey(self) -> frames.Surveyed:
        """Return all series, the members of the fleet and the counts of stored data."""
        return await catalogue_pages.whole(self._survey)

    async def drain(self, name: str) -> frames.Retired:
        """Ask a member of the fleet, ``<kind>/<id>``, to drain and stop.

        The member gets the request within seconds.  Operators may ask, and so may clients to which
        the allowlist of the coordinators grants `drain`.
        """
        return await self._ask("drain", frames.Retire(name=name), frames.Retired)

    async def members(self) -> frames.Surveyed:
        """Return the members of the fleet, counts of stored data, and the first page of series."""
        return await self._survey(frames.Survey())

    def pages(self) -> AsyncIterator[frames.Surveyed]:
        """Iterate over pages of series; only the first has members and counts of stored data."""
        return catalogue_pages.pages(self._survey)

    async def _survey(self, request: frames.Survey) -> frames.Surveyed:
        return await self._ask("survey", request, frames.Surveyed)

    async def _ask(self, what: str, request: frames.Request, expect: type[AnswerT]) -> AnswerT:
        """Send a request, with all retries, in one tracing span; return its answer."""
        with tracing.span(f"client.{what}"):
            return await self._asked(what, request, expect)

    async def _asked(self, what: str, request: frames.Request, expect: type[AnswerT]) -> AnswerT:
        request_retries.check_deadline(self.deadline_s)
        now_s = clocks.monotonic()
        call = request_retries.Call(
            what,
            self._policy,
            self.addresses,
            started_s=now_s,
            deadline_s=now_s + self.deadline_s,
        )
        while True:
            step = call.begin(clocks.monotonic(), self._links.ready())
            if isinstance(step, request_retries.GiveUp):
                raise step.error
            try:
                answer = await self._attempt(step, request)
            except MidstreamerError as error:
                await self._after(call, error)
                continue
            self._position.seen(answer.position)
            if not isinstance(answer, expect):
                raise LocalProtocolError(
                    f"{what} was answered with {type(answer).__name__}, not {expect.__name__}"
                )
            return answer

    async def _attempt(self, step: request_retries.Try, request: frames.Request) -> frames.Answer:
        try:
            return await self._links.ask(step.address, request, step.budget_s)
        except NobodyThere as error:
            raise request_retries.why_nobody(error.errors) from None

    async def _after(self, call: request_retries.Call, error: MidstreamerError) -> None:
        then = call.failed(error, clocks.monotonic(), self._dice.random(), self._links.ready())
        if isinstance(then, request_retries.GiveUp):
            raise then.error from error
        if self.on_retry is not None:
            self.on_retry(error, then.delay_s)
        await asyncio.sleep(then.delay_s)


def _by_files(
    directory: str | Path | None, identity: str, credentials: CredentialSource | None, proxy: str
) -> Carrier | None:
    """Return a carrier that uses the certificate in ``directory``.  Return None if the caller gives
    ``credentials`` instead of a folder."""
    if credentials is not None:
        if directory is not None or identity:
            raise BadInput("give credentials, or directory and identity, not both")
        return None
    if directory is None:
        raise BadInput("name the directory of the client's certificate, or give credentials")
    import midstreamer.client.certificates as certificates  # imported late: it loads aioquic

    return certificates.carrier(Path(directory), identity, proxy=proxy)


def _maker(
    carrier: Carrier | None, credentials: CredentialSource | None, proxy: str
) -> Callable[[], Carrier]:
    """Return a function that returns the carrier, or creates one from the credentials.

    The client calls the returned function only when the client opens, because a credential source
    has no certificate earlier.
    """

    def make() -> Carrier:
        if carrier is not None:
            return carrier
        if credentials is None:
            raise BadInput("a client needs a carrier, or credentials to make one with")
        from midstreamer.transport import carriers

        return carriers.build(credentials, proxy=proxy)

    return make


def _columns(ticks: Iterable[Tick | Column]) -> list[Column]:
    """Return the given columns, followed by one column for each series that has single ticks."""
    columns: list[Column] = []
    loose: dict[str, tuple[list[int], list[float]]] = {}
    for item in ticks:
        if isinstance(item, Column):
            columns.append(item)
            continue
        times, values = loose.setdefault(item.series, ([], []))
        times.append(item.time)
        values.append(item.value)
    columns += [column(series, times, values) for series, (times, values) in loose.items()]
    return columns
