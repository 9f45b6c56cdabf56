"""Requests and responses over memory links: deadlines, bounds, failures and sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from midstreamer.domain.errors import (
    BadInput,
    Behind,
    DeadlineExceeded,
    LinkClosed,
    MidstreamerError,
    Overloaded,
    Refused,
    RemoteProtocolError,
    Unavailable,
)
from midstreamer.domain.identity import Identity, Kind
from midstreamer.domain.specification import Specification
from midstreamer.protocol import frames
from midstreamer.runtime import carrier_choice, dialling, link_requests
from midstreamer.runtime import peer as peers
from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.peer import Handle, Peer, Session
from midstreamer.telemetry import metrics, tracing
from midstreamer.transport.carrier import Link
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import eventually
from tests.support.link_builders import AGENT, CLIENT, COORDINATOR, SYNC, answer_surveys, holdings
from tests.support.metric_values import shown

AT = "local:7400"


@asynccontextmanager
async def a_pair(
    handle: Handle,
    *,
    who: Identity = CLIENT,
    server: Identity = COORDINATOR,
    in_flight_max: int = 4,
) -> AsyncIterator[tuple[Peer, list[Peer]]]:
    """Yield a dialled peer, and the list of peers that the server has accepted."""
    network, seen = MemoryNetwork(), list[Peer]()

    async def opened(peer: Peer) -> None:
        seen.append(peer)

    serving = await peers.listen(
        MemoryCarrier(network, server),
        AT,
        handle=handle,
        opened=opened,
        in_flight_max=in_flight_max,
    )
    dialled = await peers.dial(
        MemoryCarrier(network, who, incarnation="i7"), AT, expect=server.kind
    )
    try:
        yield dialled, seen
    finally:
        await dialled.close()
        await serving.close()


@asynccontextmanager
async def a_link(handle: Handle, *, who: Identity = CLIENT) -> AsyncIterator[Link]:
    """Yield a dialled link without a `Peer`, so that the test chooses which frames to send."""
    network = MemoryNetwork()
    serving = await peers.listen(MemoryCarrier(network, COORDINATOR), AT, handle=handle)
    link = await MemoryCarrier(network, who).dial(AT, expect=Kind.COORDINATOR)
    try:
        yield link
    finally:
        await link.close()
        await serving.close()


async def test_the_peer_that_got_a_request_answers_the_peer_that_sent_it() -> None:
    async with a_pair(answer_surveys) as (peer, _):
        answer = await peer.ask(frames.Survey())
    assert isinstance(answer, frames.Surveyed)
    assert answer.members == (frames.Member("client/u1", "i7", ""),)


async def test_answers_find_their_requests_in_any_order() -> None:
    async def slow_first(_peer: Peer, frame: frames.Frame) -> frames.Answer:
        assert isinstance(frame, frames.Match)
        for _ in range(10 - frame.at_least):
            await asyncio.sleep(0)
        return frames.Matched(decisions=(), position=frame.at_least)

    specification = Specification("load")
    async with a_pair(slow_first, in_flight_max=20) as (peer, _):
        asked = [
            peer.ask(frames.Match(specification=specification, windows=(), at_least=number))
            for number in range(10)
        ]
        answers = await asyncio.gather(*asked)
    assert [answer.position for answer in answers] == list(range(10))


async def test_what_comes_behind_a_statement_waits_until_that_is_done() -> None:
    done: list[frames.Frame] = []

    async def slow(_peer: Peer, frame: frames.Frame) -> frames.Answer | None:
        for _ in range(50):
            await asyncio.sleep(0)
        done.append(frame)
        return None

    async with a_pair(slow, who=AGENT) as (peer, seen):
        await eventually(lambda: bool(seen))
        search = frames.Search(specification=Specification("load"), windows=(), shards=())
        peer.tell(holdings(7))
        with pytest.raises(BadInput, match="answers no requests"):
            await seen[0].ask(search)
        assert done == [holdings(7)]


async def test_an_error_of_the_handler_is_raised_at_the_asker() -> None:
    async def behind(_peer: Peer, _frame: frames.Frame) -> frames.Answer:
        raise Behind("at 5, asked for 9", retry_after_s=0.25)

    async with a_pair(behind) as (peer, _):
        with pytest.raises(Behind, match="at 5") as caught:
            await peer.ask(frames.Survey())
    assert caught.value.retry_after_s == 0.25


async def test_an_unforeseen_error_is_sent_without_its_text() -> None:
    async def broken(_peer: Peer, _frame: frames.Frame) -> frames.Answer:
        raise ZeroDivisionError("secret detail")

    async with a_pair(broken) as (peer, _):
        with pytest.raises(MidstreamerError, match="Survey failed") as caught:
            await peer.ask(frames.Survey())
    assert caught.value.code == "error"
    assert "secret" not in caught.value.message


async def surveyed(_peer: Peer, _frame: frames.Frame) -> frames.Answer | None:
    return frames.Surveyed()


async def refusing(_peer: Peer, _frame: frames.Frame) -> frames.Answer | None:
    raise Unavailable("away")


async def never(_peer: Peer, _frame: frames.Frame) -> frames.Answer | None:
    await asyncio.Event().wait()
    return None


async def test_an_answer_that_does_not_come_runs_into_the_deadline() -> None:
    async with a_pair(never) as (peer, _):
        with pytest.raises(DeadlineExceeded, match=r"Survey"):
            await peer.ask(frames.Survey(), budget_s=0.01)


async def test_work_on_a_request_stops_when_its_budget_is_over() -> None:
    stopped = asyncio.Event()

    async def noting(_peer: Peer, _frame: frames.Frame) -> frames.Answer | None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return None

    async with a_pair(noting) as (peer, _):
        with pytest.raises(DeadlineExceeded):
            await peer.ask(frames.Survey(), budget_s=0.01)
        await asyncio.wait_for(stopped.wait(), 1)


@pytest.mark.parametrize("budget_s", [float("nan"), float("inf"), -1.0])
async def test_a_budget_that_is_no_time_is_over_at_once(budget_s: float) -> None:
    async with a_link(never) as link:
        link.send(frames.Survey(request=77, budget_s=budget_s))
        answer = await link.receive()
    assert isinstance(answer, frames.Failure)
    assert (answer.request, answer.code) == (77, DeadlineExceeded.code)


@pytest.mark.parametrize(
    ("budget_s", "worked_s"),
    [(float("nan"), 0.0), (float("inf"), 0.0), (-1.0, 0.0), (1e9, 300.0), (2.0, 2.0)],
)
async def test_the_handler_of_a_request_gets_a_budget_within_bounds(
    budget_s: float, worked_s: float
) -> None:
    seen: list[float] = []

    async def reckoning(_peer: Peer, frame: frames.Frame) -> frames.Answer:
        assert isinstance(frame, frames.Survey)
        seen.append(frame.budget_s)
        return frames.Surveyed()

    async with a_pair(reckoning) as (peer, _):
        peer.tell(frames.Survey(request=77, budget_s=budget_s))
        await eventually(lambda: bool(seen))
    assert seen == [worked_s]


async def test_requests_under_way_are_counted_until_they_are_answered() -> None:
    def under_way() -> float | None:
        return metrics.REGISTRY.get_sample_value("midstreamer_queue_depth", {"queue": "requests"})

    enough = asyncio.Event()

    async def waiting(_peer: Peer, _frame: frames.Frame) -> frames.Answer | None:
        await enough.wait()
        return frames.Surveyed(position=1)

    async with a_pair(waiting) as (peer, _):
        held = [asyncio.create_task(peer.ask(frames.Survey())) for _ in range(3)]
        await eventually(lambda: under_way() == 3)
        enough.set()
        await asyncio.gather(*held)
        assert under_way() == 0


@pytest.mark.parametrize(
    ("handle", "result"), [(surveyed, "ok"), (refusing, "unavailable"), (never, "cancelled")]
)
async def test_a_call_is_measured_by_what_came_of_it(handle: Any, result: str) -> None:
    def measured() -> float:
        return shown(metrics.CALL_LATENCY_S, "_count", frame="Survey", result=result)

    before = measured()
    async with a_pair(handle) as (peer, _):
        asked = asyncio.create_task(peer.ask(frames.Survey()))
        if result == "cancelled":
            await asyncio.sleep(0)
            asked.cancel()
        await asyncio.wait([asked])
    assert measured() == before + 1


async def test_an_exemplar_leads_from_a_slow_request_to_its_trace() -> None:
    tracing.configure("log", service="test", exporter=InMemorySpanExporter())
    try:
        async with a_pair(surveyed) as (peer, _):
            with tracing.span("caller"):
                trace = tracing.current().split("-")[1]
                await peer.ask(frames.Survey())
        text, _ = metrics.render_for(metrics.OPEN_METRICS)
    finally:
        tracing.configure("off", service="test")
    lines = [line for line in text.decode().splitlines() if trace in line]
    names = {line.partition("{")[0] for line in lines}
    assert {
        "midstreamer_call_latency_seconds_bucket",
        "midstreamer_request_latency_seconds_bucket",
    } <= names


async def test_more_requests_than_allowed_are_refused_early() -> None:
    async with a_pair(never, in_flight_max=2) as (peer, _):
        held = [asyncio.create_task(peer.ask(frames.Survey())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="in_flight_max=2") as caught:
            await peer.ask(frames.Survey())
        assert caught.value.retry_after_s > 0
        for task in held:
            task.cancel()


async def test_a_frame_that_its_sender_may_not_send_closes_the_connection() -> None:
    before = metrics.REFUSED_FRAMES.labels("Search", "client")._value.get()

    async with a_pair(answer_surveys) as (peer, seen):
        search = frames.Search(specification=Specification("load"), windows=(), shards=())
        with pytest.raises(LinkClosed, match="not_authorised"):
            await peer.ask(search)
        await seen[0].wait_closed()
    assert metrics.REFUSED_FRAMES.labels("Search", "client")._value.get() == before + 1


async def test_a_lease_in_anothers_name_closes_the_connection() -> None:
    async with a_pair(answer_surveys, who=AGENT, server=SYNC) as (peer, _):
        member = frames.Member("agent/a2", "i", "")
        with pytest.raises(LinkClosed, match="claim_mismatch"):
            await peer.ask(frames.Renew(member=member))


async def test_statements_are_handled_in_the_order_they_came() -> None:
    positions, last = list[int](), asyncio.Event()

    async def note(_peer: Peer, frame: frames.Frame) -> None:
        assert isinstance(frame, frames.Holdings)
        await asyncio.sleep(0)
        positions.append(frame.position)
        if frame.position == 19:
            last.set()

    async with a_pair(note, who=AGENT) as (peer, _):
        for position in range(20):
            peer.tell(holdings(position))
        await asyncio.wait_for(last.wait(), 1)
    assert positions == list(range(20))


async def test_pending_requests_fail_when_the_connection_ends() -> None:
    async with a_pair(never) as (peer, seen):
        asked = asyncio.create_task(peer.ask(frames.Survey()))
        await eventually(lambda: bool(seen) and bool(seen[0]._working))
        await seen[0].close("leaving", "for lunch")
        with pytest.raises(LinkClosed, match="leaving: for lunch"):
            await asked
        await peer.wait_closed()
        assert peer.closed
        with pytest.raises(LinkClosed):
            await peer.ask(frames.Survey())


async def feed(peer: Peer, frame: frames.Frame) -> None:
    assert isinstance(frame, frames.Tail)
    for position in range(frame.after + 1, frame.after + 4):
        peer.tell(frames.Changes(request=frame.request, position=position, changes=()))


async def test_a_feed_is_followed_until_the_connection_ends() -> None:
    async with a_pair(feed, who=AGENT, server=SYNC) as (peer, seen):
        following = peer.follow(frames.Tail(after=4))
        positions = [(await anext(following)).position for _ in range(3)]
        await seen[0].close()
        with pytest.raises(LinkClosed):
            await anext(following)
    assert positions == [5, 6, 7]


async def test_a_reader_that_is_too_slow_is_told_to_follow_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_requests, "FOLLOW_MAX", 2)
    async with a_pair(feed, who=AGENT, server=SYNC) as (peer, _):
        following = peer.follow(frames.Tail(after=0))
        assert (await anext(following)).position == 1
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="follow again"):
            _ = [changes async for changes in following]


async def test_a_failed_tail_raises_what_failed() -> None:
    async def refuse(_peer: Peer, _frame: frames.Frame) -> frames.Answer:
        raise Unavailable("no store")

    async with a_pair(refuse, who=AGENT, server=SYNC) as (peer, _):
        with pytest.raises(Unavailable, match="no store"):
            await anext(peer.follow(frames.Tail(after=0)))


async def test_a_session_finds_its_server_again() -> None:
    network = MemoryNetwork()
    server = MemoryCarrier(network, COORDINATOR)
    session = Session(MemoryCarrier(network, CLIENT), lambda: [AT], expect=Kind.COORDINATOR)
    running = asyncio.create_task(session.run())
    asked = asyncio.create_task(session.ask(frames.Survey(), budget_s=5))
    await asyncio.sleep(0)
    first = await peers.listen(server, AT, handle=answer_surveys)
    assert isinstance(await asked, frames.Surveyed)
    network.cut(AT)
    await first.close()
    second = await peers.listen(server, AT, handle=answer_surveys)
    assert isinstance(await session.ask(frames.Survey(), budget_s=5), frames.Surveyed)
    running.cancel()
    await second.close()


@pytest.mark.parametrize("dialling", ["in vain", "a new link"])
async def test_a_session_that_leaves_while_it_dials_opens_no_link(
    dialling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, opened = MemoryNetwork(), list[Peer]()

    async def note(peer: Peer) -> None:
        opened.append(peer)

    carrier = MemoryCarrier(network, CLIENT)
    session = Session(carrier, AT, expect=Kind.COORDINATOR, opened=note)
    dial, begun, let = carrier.dial, asyncio.Event(), asyncio.Event()

    async def held(address: str, *, expect: Kind) -> Link:
        begun.set()
        if dialling == "a new link":
            await let.wait()
        return await dial(address, expect=expect)

    monkeypatch.setattr(carrier, "dial", held)
    running = asyncio.create_task(session.run())
    await begun.wait()
    await session.leave(1.0)
    server = await peers.listen(MemoryCarrier(network, COORDINATOR), AT, handle=answer_surveys)
    let.set()
    with pytest.raises(DeadlineExceeded):
        await session.live(0.3)  # long enough for the session to try several times
    assert opened == []
    assert server.peers == ()
    running.cancel()
    await asyncio.wait({running})
    await server.close()


@pytest.mark.parametrize("address", [AT, f"quic+wss://{AT}"])
async def test_a_session_that_is_cancelled_at_any_moment_leaves_no_link_open(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``quic+wss``, the session keeps replacing its link, because it never gets QUIC."""
    monkeypatch.setattr(carrier_choice, "BACK", Backoff(first_s=1e-9, most_s=1e-9))
    network, opened = MemoryNetwork(), list[Peer]()

    async def stay(peer: Peer) -> None:
        opened.append(peer)
        await asyncio.Event().wait()

    class Carrier(MemoryCarrier):
        async def dial(self, address: str, *, expect: Kind) -> Link:
            return await super().dial(AT, expect=expect)

    server = await peers.listen(MemoryCarrier(network, COORDINATOR), AT, handle=never)
    for turns in range(40):
        carrier = Carrier(network, CLIENT)
        session = Session(carrier, address, expect=Kind.COORDINATOR, opened=stay)
        running = asyncio.create_task(session.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        await eventually(lambda: not server.peers)
    assert opened
    await server.close()


async def test_a_session_says_why_there_is_no_server() -> None:
    session = Session(MemoryCarrier(MemoryNetwork(), CLIENT), AT, expect=Kind.COORDINATOR)
    running = asyncio.create_task(session.run())
    with pytest.raises(DeadlineExceeded, match="nothing listens"):
        await session.ask(frames.Survey(), budget_s=0.02)
    running.cancel()


async def test_a_dialled_peer_has_ended_when_its_close_returns() -> None:
    def reading() -> list[str]:
        names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        return [name for name in names if name == "Peer.run"]

    async with a_pair(never) as (dialled, seen):
        await eventually(lambda: bool(seen))
        assert len(reading()) == 1
        await dialled.close()
        assert reading() == []


async def test_what_runs_beside_a_connection_ends_with_it() -> None:
    network, events = MemoryNetwork(), list[str]()

    async def opened(peer: Peer) -> None:
        events.append("opened")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    async def closed(peer: Peer) -> None:
        events.append("closed")

    server = await peers.listen(
        MemoryCarrier(network, COORDINATOR), AT, handle=answer_surveys, opened=opened, closed=closed
    )
    peer = await peers.dial(MemoryCarrier(network, CLIENT), AT, expect=Kind.COORDINATOR)
    await peer.ask(frames.Survey())
    await peer.close()
    await server.close()
    assert events == ["opened", "cancelled", "closed"]


async def test_dialling_the_wrong_kind_or_without_being_listed_is_refused() -> None:
    network = MemoryNetwork()
    server = await peers.listen(MemoryCarrier(network, SYNC), AT, handle=answer_surveys)
    with pytest.raises(Refused) as wrong_server:
        await peers.dial(MemoryCarrier(network, AGENT), AT, expect=Kind.COORDINATOR)
    with pytest.raises(Refused) as wrong_client:
        await peers.dial(MemoryCarrier(network, CLIENT), AT, expect=Kind.SYNC)
    assert wrong_server.value.reason == wrong_client.value.reason == "wrong_kind"
    await server.close()


@pytest.mark.parametrize("failing", [Unavailable("no store yet"), ZeroDivisionError()])
async def test_a_connection_whose_beginning_fails_is_begun_anew(failing: Exception) -> None:
    network, attempts, settled = MemoryNetwork(), list[Peer](), asyncio.Event()

    async def opened(peer: Peer) -> None:
        attempts.append(peer)
        if len(attempts) == 1:
            raise failing
        settled.set()

    carrier = MemoryCarrier(network, COORDINATOR)
    server = await peers.listen(carrier, AT, handle=answer_surveys)
    session = Session(MemoryCarrier(network, CLIENT), AT, expect=Kind.COORDINATOR, opened=opened)
    running = asyncio.create_task(session.run())
    await asyncio.wait_for(settled.wait(), 2)
    assert attempts[0].closed
    assert session.peer is attempts[1]
    running.cancel()
    await server.close()


async def test_an_answer_too_large_to_send_becomes_a_failure() -> None:
    async def too_much(_peer: Peer, _frame: frames.Frame) -> frames.Answer:
        many = frames.Member("agent/a", "i" * 5_000_000, "")
        return frames.Surveyed(members=(many,))

    async with a_pair(too_much) as (peer, _):
        with pytest.raises(MidstreamerError, match="exceeds frame_bytes_max"):
            await peer.ask(frames.Survey())


async def test_a_side_without_a_handler_answers_no_requests() -> None:
    asked: asyncio.Future[frames.Answer] = asyncio.get_running_loop().create_future()

    async def opened(peer: Peer) -> None:
        search = frames.Search(specification=Specification("load"), windows=(), shards=())
        try:
            asked.set_result(await peer.ask(search))
        except MidstreamerError as error:
            asked.set_exception(error)

    network = MemoryNetwork()
    carrier = MemoryCarrier(network, COORDINATOR)
    server = await peers.listen(carrier, AT, handle=answer_surveys, opened=opened)
    peer = await peers.dial(MemoryCarrier(network, AGENT), AT, expect=Kind.COORDINATOR)
    with pytest.raises(BadInput, match="answers no requests"):
        await asyncio.wait_for(asked, 2)
    await peer.close()
    await server.close()


async def test_a_link_that_opens_and_fails_again_and_again_is_dialled_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[int] = []

    def pause(attempts: int, *, backoff: Backoff) -> float:
        waits.append(attempts)
        return 0.0

    async def opened(peer: Peer) -> None:
        raise RemoteProtocolError("Surveyed of 4,294,968 B exceeds frame_bytes_max")

    monkeypatch.setattr(dialling, "pause", pause)
    network = MemoryNetwork()
    server = await peers.listen(MemoryCarrier(network, COORDINATOR), AT, handle=answer_surveys)
    session = Session(MemoryCarrier(network, CLIENT), AT, expect=Kind.COORDINATOR, opened=opened)
    running = asyncio.create_task(session.run())
    await eventually(lambda: len(waits) >= 5)
    assert waits[:5] == [1, 2, 3, 4, 5]
    running.cancel()
    await asyncio.wait([running])
    await server.close()
