"""The asynchronous client: ticks in, decisions out, over persistent links to coordinators.

    async with AsyncClient.connect("127.0.0.1:7400", directory="certs") as client:
        await client.append([Tick("demo/a", 1, 1.0)])
        decision = await client.match("demo/a", 1, values, specification)

Links to several coordinators are kept alive in the background (`links`); a request goes to the one
that answered last and moves on when it fails (`core.Call` decides).  Each answer's feed position is
remembered and sent with the next request: a client reads its own writes whichever coordinator
it asks.  The client owns no series: windows come from the caller.
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

from midstreamer.client import calls
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
from midstreamer.runtime import renewing, surveying
from midstreamer.runtime.peer import LINK_AGE_S
from midstreamer.security.credentials import CredentialSource, Renewed
from midstreamer.telemetry import tracing
from midstreamer.transport.carrier import Carrier

DEFAULT_ADDRESS = "127.0.0.1:7400"
DEFAULT_DEADLINE_S = 30.0
TRUST_DOMAIN, PORT = "midstreamer.local", 7400
"""The values ``trustDomain`` and ``coordinator.port`` of the chart, unless they were changed."""

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
        policy: calls.Policy | None = None,
        link_age_s: float = LINK_AGE_S,
    ) -> None:
        if not addresses:
            raise BadInput("a client needs the address of at least one coordinator, host:port")
        self.addresses = tuple(addresses)
        self.deadline_s = deadline_s
        """Overall time for one call, all its attempts together; changed at will."""
        self.on_retry: Callable[[MidstreamerError, float], None] | None = None
        """Told of each failed attempt and the seconds until the next: for progress displays."""
        self._policy = policy or calls.Policy()
        self._source = credentials
        make = _maker(carrier, credentials, proxy)
        self._links = Links(make, self.addresses, link_age_s=link_age_s)
        self._ends = AsyncExitStack()
        self._position = calls.Position()
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
        """A client by its certificates; connects on entering ``async with``.

        ``directory`` holds what ``midstreamer certs issue client/<id>`` wrote; ``identity``
        (``client/<id>``) picks one when several lie there.  ``credentials`` come instead of both:
        a source such as `RequestedSource`, whose key is in no file.  Entering waits up to
        ``deadline_s`` seconds for its first certificate, and the client renews it until it is
        closed.  Each link is replaced after about ``link_age_s`` seconds; no request fails by that.

        An address is ``host:port``; ``quic+wss://`` in front of it allows WebSocket where the
        network drops UDP, ``wss://`` takes it alone.  ``proxy`` is the HTTP proxy through which
        WebSocket is dialled: ``http://host:port``, ``environment``, or empty for none.
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
        """A client in a pod of the cluster that the fleet is in; ConfigError outside of a pod.

        ``namespace`` and ``release`` are the fleet's, as Helm was told; ``trust_domain`` and
        ``port`` are its values ``trustDomain`` and ``coordinator.port``. The client is
        ``client/<namespace>/<pod>/<uid>`` of its own pod. It makes a key that never leaves its
        memory, has it certified by the fleet's operator and renews that until it is closed.

        Entering waits up to ``deadline_s`` seconds for the first certificate, then raises
        DeadlineExceeded with the reason: the operator is away, or the words in which it denies.
        """
        import midstreamer.client.in_cluster as in_cluster  # h11 loads late

        made = in_cluster.source(namespace, release, trust_domain)
        return cls.connect(
            in_cluster.address(namespace, release, port),
            credentials=made,
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
        calls.check_deadline(self.deadline_s)
        waiting = ""

        def look() -> None:
            nonlocal waiting
            waiting = source.waiting if isinstance(source, Renewed) else ""

        # Before the request is given up: afterwards it waits for nothing any more.
        looking = asyncio.get_running_loop().call_later(self.deadline_s, look)
        try:
            async with asyncio.timeout(self.deadline_s) as limit:
                await self._ends.enter_async_context(renewing.kept(source))
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
        """The highest feed position seen; what this client wrote is included from there on."""
        return self._position.highest

    async def reach(self, within_s: float) -> None:
        """Return when a coordinator is connected; otherwise say soon that nobody is there.

        A call retries until its deadline, because a fleet may be restarting. Someone who waits
        at a terminal would rather know at once: ask for this first.
        """
        try:
            await self._links.reached(within_s, once=True)
        except NobodyThere as error:
            raise calls.nobody_there(error.errors) from None

    async def append(
        self, ticks: Iterable[Tick | Column], *, level: Level | str = Level.DURABLE
    ) -> calls.Receipt:
        """Make history grow; ticks already stored are counted as repeated.

        ``ticks`` are ticks in time order, or columns (`midstreamer.column`).
        """
        level = Level(level)
        answers = []
        for group in calls.split_columns(_columns(ticks)):
            request = frames.Append(columns=group, level=level)
            answers.append(await self._ask("append", request, frames.Appended))
        return calls.receipt(answers, level)

    async def match(
        self,
        series: str,
        time: int,
        values: Iterable[float] | Floats,
        specification: Specification,
        *,
        record: bool = True,
    ) -> Decision:
        """Decide about one window: the last ``m`` values of ``series``, ending at ``time``."""
        made = make_window(values, series=series, time=time)
        return (await self.match_many([made], specification, record=record))[0]

    async def match_many(
        self,
        windows: Sequence[Window],
        specification: Specification,
        *,
        level: Level | str = Level.DURABLE,
        record: bool = True,
    ) -> list[Decision]:
        """Decide about windows, those of one time together; answers in the order asked."""
        check(specification)
        calls.check_windows(specification, windows)
        decisions: list[Decision] = []
        for group in calls.split_windows(specification, windows):
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
        """What is stored of these experiences: decisions, and verdicts once they are known."""
        wanted = tuple(experience_ids)
        decisions: list[Decision] = []
        verdicts: list[Verdict] = []
        while wanted:
            asked, rest = wanted[: calls.IDS_PER_LOOKUP], wanted[calls.IDS_PER_LOOKUP :]
            request = frames.Lookup(experience_ids=asked)
            found = await self._ask("lookup", request, frames.Experiences)
            wanted = (*calls.left_of(found, asked), *rest)
            decisions += found.decisions
            verdicts += found.verdicts
        return frames.Experiences(
            decisions=tuple(decisions), verdicts=tuple(verdicts), position=self.position
        )

    async def survey(self) -> frames.Surveyed:
        """What is there: every series, members, counts."""
        return await surveying.whole(self._survey)

    async def drain(self, name: str) -> frames.Retired:
        """Ask a member of the fleet, ``<kind>/<id>``, to drain and stop; it is told within seconds.

        Operators may, and clients whom the allowlist of the coordinators grants it.
        """
        return await self._ask("drain", frames.Retire(name=name), frames.Retired)

    async def members(self) -> frames.Surveyed:
        """Who is there, with the first page of the series."""
        return await self._survey(frames.Survey())

    def pages(self) -> AsyncIterator[frames.Surveyed]:
        """The same a page at a time; members and counts come with the first."""
        return surveying.pages(self._survey)

    async def _survey(self, request: frames.Survey) -> frames.Surveyed:
        return await self._ask("survey", request, frames.Surveyed)

    async def _ask(self, what: str, request: frames.Request, expect: type[AnswerT]) -> AnswerT:
        """One request through all its attempts, in one span."""
        with tracing.span(f"client.{what}"):
            return await self._asked(what, request, expect)

    async def _asked(self, what: str, request: frames.Request, expect: type[AnswerT]) -> AnswerT:
        calls.check_deadline(self.deadline_s)
        now_s = clocks.monotonic()
        call = calls.Call(
            what,
            self._policy,
            self.addresses,
            started_s=now_s,
            deadline_s=now_s + self.deadline_s,
        )
        while True:
            step = call.begin(clocks.monotonic(), self._links.ready())
            if isinstance(step, calls.GiveUp):
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

    async def _attempt(self, step: calls.Try, request: frames.Request) -> frames.Answer:
        try:
            return await self._links.ask(step.address, request, step.budget_s)
        except NobodyThere as error:
            raise calls.why_nobody(error.errors) from None

    async def _after(self, call: calls.Call, error: MidstreamerError) -> None:
        then = call.failed(error, clocks.monotonic(), self._dice.random(), self._links.ready())
        if isinstance(then, calls.GiveUp):
            raise then.error from error
        if self.on_retry is not None:
            self.on_retry(error, then.delay_s)
        await asyncio.sleep(then.delay_s)


def _by_files(
    directory: str | Path | None, identity: str, credentials: CredentialSource | None, proxy: str
) -> Carrier | None:
    """The carrier by a folder's certificate; None where a source was given instead."""
    if credentials is not None:
        if directory is not None or identity:
            raise BadInput("give credentials, or directory and identity, not both")
        return None
    if directory is None:
        raise BadInput("name the directory of the client's certificate, or give credentials")
    import midstreamer.client.certificates as certificates  # aioquic loads late

    return certificates.carrier(Path(directory), identity, proxy=proxy)


def _maker(
    carrier: Carrier | None, credentials: CredentialSource | None, proxy: str
) -> Callable[[], Carrier]:
    """How to come by the carrier when the client opens: a source has no certificate before."""

    def make() -> Carrier:
        if carrier is not None:
            return carrier
        if credentials is None:
            raise BadInput("a client needs a carrier, or credentials to make one with")
        from midstreamer.transport import carriers

        return carriers.build(credentials, proxy=proxy)

    return make


def _columns(ticks: Iterable[Tick | Column]) -> list[Column]:
    """Columns in the order in which their series first appear."""
    made: list[Column] = []
    loose: dict[str, tuple[list[int], list[float]]] = {}
    for item in ticks:
        if isinstance(item, Column):
            made.append(item)
            continue
        times, values = loose.setdefault(item.series, ([], []))
        times.append(item.time)
        values.append(item.value)
    made += [column(series, times, values) for series, (times, values) in loose.items()]
    return made
