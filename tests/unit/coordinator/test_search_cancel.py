"""Searches over the memory carrier: when a request is cancelled, its searches at agents end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from midstreamer.coordinator import dispatch
from midstreamer.coordinator.dispatch_io import Dispatcher
from midstreamer.domain import shard
from midstreamer.domain.identity import Identity, Kind
from midstreamer.domain.shard import Shard
from midstreamer.protocol import frames
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Peer
from midstreamer.telemetry import metrics, tracing
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import a_specification, eventually
from tests.support.link_builders import COORDINATOR
from tests.support.metric_values import shown

AT = "local:7400"
SHARDS = (Shard("walk/a", 0),)


class _Agent:
    """An agent whose searches wait until `let` is set; it counts how they ended."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.begun = self.cancelled = 0

    async def handle(self, _peer: Peer, frame: frames.Frame) -> frames.Answer:
        assert isinstance(frame, frames.Search)
        self.begun += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return frames.Found(findings=())


@asynccontextmanager
async def _a_fleet(agents: int) -> AsyncIterator[tuple[Dispatcher, list[_Agent]]]:
    network = MemoryNetwork()
    dispatcher = Dispatcher(dispatch.Limits(patience_s=0.05), requests_max=8)
    running = asyncio.create_task(dispatcher.run())

    async def handle(peer: Peer, frame: frames.Frame) -> None:
        assert isinstance(frame, frames.Holdings)
        dispatcher.reported(peer, frame)

    server = await peers.listen(MemoryCarrier(network, COORDINATOR), AT, handle=handle)
    served = [_Agent() for _ in range(agents)]
    for number, agent in enumerate(served):
        who = Identity(COORDINATOR.trust_domain, Kind.AGENT, f"a{number}")
        carrier = MemoryCarrier(network, who)
        peer = await peers.dial(carrier, AT, expect=Kind.COORDINATOR, handle=agent.handle)
        digest = shard.digest(SHARDS)
        peer.tell(frames.Holdings(1, SHARDS, count=len(SHARDS), digest=digest))
    await eventually(lambda: len(dispatcher._core.agents()) == agents)
    try:
        yield dispatcher, served
    finally:
        running.cancel()
        await server.close()


def _search(dispatcher: Dispatcher) -> asyncio.Task[object]:
    until_s = asyncio.get_running_loop().time() + 60
    return asyncio.create_task(
        dispatcher.search(
            a_specification(), (), SHARDS, at_least=0, deadline_s=until_s, origin="client/u1"
        )
    )


async def test_a_cancelled_search_ends_at_its_agent() -> None:
    async with _a_fleet(1) as (dispatcher, [agent]):
        search = _search(dispatcher)
        await eventually(lambda: agent.begun == 1)
        search.cancel()
        await eventually(lambda: agent.cancelled == 1)
        assert (dispatcher._sending, dispatcher._core._attempts) == ({}, {})


async def test_the_slower_of_two_agents_is_told_to_stop() -> None:
    async with _a_fleet(2) as (dispatcher, agents):
        search = _search(dispatcher)
        await eventually(lambda: all(agent.begun for agent in agents))
        agents[1].let.set()
        await search
        await eventually(lambda: agents[0].cancelled == 1)
        assert dispatcher._core.agents().keys() == {"agent/a0", "agent/a1"}


async def test_an_agent_of_the_version_before_is_left_to_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = dict(MemoryCarrier.__init__.__kwdefaults__ or {}) | {"capabilities": ()}
    monkeypatch.setattr(MemoryCarrier.__init__, "__kwdefaults__", defaults)
    async with _a_fleet(1) as (dispatcher, [agent]):
        search = _search(dispatcher)
        await eventually(lambda: agent.begun == 1)
        search.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (agent.cancelled, dispatcher._core._attempts) == (0, {})
        agent.let.set()
        assert await _search(dispatcher) == []


async def test_attempts_are_counted_by_what_became_of_them() -> None:
    def counted() -> dict[str, float]:
        results = {
            result: shown(metrics.DISPATCH_ATTEMPTS, result=result)
            for result in ("answered", "failed", "abandoned")
        }
        return {**results, "overdue": shown(metrics.DISPATCH_OVERDUE)}

    before = counted()
    async with _a_fleet(2) as (dispatcher, agents):
        search = _search(dispatcher)
        await eventually(lambda: all(agent.begun for agent in agents))
        agents[1].let.set()
        await search
        await eventually(lambda: agents[0].cancelled == 1)
    gained = {key: value - before[key] for key, value in counted().items()}
    assert gained == {"answered": 1, "failed": 0, "abandoned": 1, "overdue": 1}


async def test_shards_are_counted_by_how_many_agents_hold_them() -> None:
    nobodys = Shard("walk/b", 0)
    async with _a_fleet(1) as (dispatcher, _):
        assert dispatcher.coverage([*SHARDS, nobodys]) == (2, 2, 1)
    async with _a_fleet(2) as (dispatcher, _):
        assert dispatcher.coverage([*SHARDS, nobodys]) == (2, 1, 1)


# tests of one agent with two links to the coordinator


class _Link:
    """A stand-in for the link of an agent."""

    def __init__(self, incarnation: str = "i1") -> None:
        self.identity = Identity(COORDINATOR.trust_domain, Kind.AGENT, "a1")
        self.incarnation = incarnation
        self.leaving = self.closed = False

    async def close(self, code: str = "", message: str = "") -> None:
        self.closed = True


MANY = tuple(Shard("walk/a", number) for number in range(6))


def _holdings(*shards: Shard, more: bool = False) -> frames.Holdings:
    """Return a page with some shards of an agent; ``more`` says that another page follows.

    The count and the digest on each page say that the agent holds all shards in `MANY`.
    """
    return frames.Holdings(1, shards, count=len(MANY), digest=shard.digest(MANY), more=more)


@asynccontextmanager
async def _a_dispatcher() -> AsyncIterator[tuple[Dispatcher, Callable[..., None]]]:
    """Yield a running dispatcher and a function that reports an agent's holdings to it."""
    dispatcher = Dispatcher(dispatch.Limits(), requests_max=4)
    running = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0)

    def reported(link: _Link, *shards: Shard, more: bool = False) -> None:
        dispatcher.reported(cast(Peer, link), _holdings(*shards, more=more))

    yield dispatcher, reported
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})


async def test_a_late_heartbeat_of_the_older_link_does_not_take_over_again() -> None:
    async with _a_dispatcher() as (dispatcher, reported):
        old, new = _Link(), _Link()
        reported(old, *MANY)
        reported(new, *MANY)
        reported(old)
        reported(new)
        assert dispatcher._peers["agent/a1"] is cast(Peer, new)
        assert dispatcher.holds(MANY)
    assert (old.closed, new.closed) == (False, False)


@pytest.mark.parametrize("end", ["lost", "hung up"])
async def test_a_newer_link_goes_on_telling_when_the_older_one_ends(end: str) -> None:
    async with _a_dispatcher() as (dispatcher, reported):
        old, new = _Link(), _Link()
        reported(old, *MANY)
        reported(new, *MANY[:3], more=True)
        if end == "lost":
            dispatcher.lost(cast(Peer, old))
        else:
            # This page adds a shard that is not in `MANY`, but it still states the digest of
            # `MANY`. Now the shards reported on the older link have another digest than stated. So
            # the dispatcher closes the older link.
            reported(old, Shard("walk/b", 0))
        reported(new, *MANY[3:])
        assert dispatcher._peers["agent/a1"] is cast(Peer, new)
        assert dispatcher.holds(MANY)
    assert new.closed is False


async def test_a_search_at_an_agent_belongs_to_the_trace_of_its_request() -> None:
    kept = InMemorySpanExporter()
    tracing.configure("log", service="coordinator", exporter=kept)
    try:
        async with _a_fleet(2) as (dispatcher, agents):
            with tracing.span("match"):
                search = _search(dispatcher)
            # The first agent does not answer in time, so a timer makes the dispatcher ask the other
            # agent. The timer does not run inside the tracing span "match", but the search that it
            # starts must belong to this span too.
            await eventually(lambda: all(agent.begun for agent in agents))
            agents[0].let.set()
            await search
            await eventually(lambda: agents[1].cancelled == 1)
    finally:
        tracing.configure("off", service="")
    spans = [span for span in kept.get_finished_spans() if span.context]
    named = {span.context.span_id: span.name for span in spans if span.context}
    under = [(span.name, named[span.parent.span_id]) for span in spans if span.parent]
    assert sorted(under) == [("Search", "attempt")] * 2 + [("attempt", "match")] * 2
