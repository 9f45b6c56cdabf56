"""The promises of every carrier, tested on QUIC and WebSocket over real sockets, and on memory.

``gevent`` is the carrier of load tests. It runs in a separate process and can only dial, so the
server that it dials is QUIC on asyncio.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from midstreamer.domain.errors import (
    LinkClosed,
    LocalProtocolError,
    MidstreamerError,
    Overloaded,
    Refused,
    Unavailable,
)
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import frames
from midstreamer.security import allowlist
from midstreamer.telemetry import label_values, metrics
from midstreamer.transport.carrier import Carrier, Limits, Link, Server
from midstreamer.transport.carriers import Carriers
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support import over_gevent as over_gevent_
from tests.support.fleet import eventually
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import holdings
from tests.support.metric_values import shown

LIMITS = Limits(
    handshake_s=2.0,
    idle_s=2.0,
    links_max=3,
    links_per_identity_max=2,
    send_high_bytes=200_000,
    send_low_bytes=50_000,
    inbox_bytes_max=2_000_000,
)
COORDINATOR = who(Kind.COORDINATOR, "c1")
AGENT = who(Kind.AGENT, "a1")


@dataclass
class World:
    """One kind of carrier under test.

    `carrier` makes a carrier for an identity, `allow` sets the entries of the allowlist.
    """

    carrier: Callable[[Identity], Carrier]
    allow: Callable[[list[str]], None]
    look: Callable[[Carrier, Server], None]
    """A function that makes a server notice a changed allowlist at once."""
    address: str


def in_memory() -> World:
    network, entries = MemoryNetwork(), ["agent/*", "coordinator/*", "client/*"]

    def carrier(me: Identity) -> Carrier:
        def current() -> allowlist.Allowlist:
            return allowlist.parse("\n".join(entries))

        return MemoryCarrier(network, me, allowlist=current, limits=LIMITS)

    def allow(wanted: list[str]) -> None:
        entries[:] = wanted

    return World(carrier, allow, lambda _, server: server.reconsider(), "local:0")


def over_sockets(directory: Path, scheme: str) -> World:
    place = Installation(directory, LIMITS)

    def look(carrier: Carrier, _server: Server) -> None:
        assert isinstance(carrier, Carriers)
        carrier.look()

    def allow(wanted: list[str]) -> None:
        place.allow(*wanted)

    return World(place.carriers, allow, look, f"{scheme}://127.0.0.1:0")


def over_gevent(directory: Path, place: Path) -> World:
    sockets = over_sockets(directory, "quic")
    serves = sockets.carrier

    def carrier(me: Identity) -> Carrier:
        if me == COORDINATOR:
            return serves(me)
        return cast(Carrier, over_gevent_.GeventCarrier(place, directory, me, LIMITS))

    return replace(sockets, carrier=carrier)


@pytest.fixture(scope="module")
def gevent_end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with over_gevent_.end(tmp_path_factory.mktemp("gevent")) as place:
        yield place


@pytest.fixture(params=["memory", "quic", "wss", "quic+wss", "gevent"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    name = str(request.param)
    if name == "gevent":
        return over_gevent(tmp_path, request.getfixturevalue("gevent_end"))
    return in_memory() if name == "memory" else over_sockets(tmp_path, name)


class Serving:
    """A coordinator whose links a test uses; they stay open until the test ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.carrier = world.carrier(COORDINATOR)
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self._leave = asyncio.Event()
        self.server: Server

    async def __aenter__(self) -> "Serving":
        self.server = await self.carrier.serve(self.world.address, self._serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave.set()
        await self.server.close()

    async def _serve(self, link: Link) -> None:
        self.links.put_nowait(link)
        await self._leave.wait()

    async def meet(self, me: Identity = AGENT) -> tuple[Link, Link]:
        """Open a link, and return both ends, the dialling end first."""
        near = await self.world.carrier(me).dial(self.server.address, expect=Kind.COORDINATOR)
        return near, await asyncio.wait_for(self.links.get(), 2)


@pytest.fixture
async def serving(world: World) -> AsyncIterator[Serving]:
    async with Serving(world) as coordinator:
        yield coordinator


async def test_both_ends_know_who_the_other_is(serving: Serving) -> None:
    near, far = await serving.meet()
    assert near.peer == COORDINATOR
    assert far.peer == AGENT
    assert far.incarnation
    await near.close()


async def test_frames_arrive_whole_and_in_order_on_each_stream(serving: Serving) -> None:
    near, far = await serving.meet()
    for source, target in ((near, far), (far, near)):
        for position in range(50):
            source.send(holdings(position))
        got = [await asyncio.wait_for(target.receive(), 2) for _ in range(50)]
        assert got == [holdings(position) for position in range(50)]
    await near.close()


async def test_frames_are_delivered_on_arrival_and_the_rest_are_received_in_order(
    serving: Serving,
) -> None:
    near, far = await serving.meet()
    offered: list[int] = []

    def take(frame: frames.Frame) -> bool:
        assert isinstance(frame, frames.Holdings)
        offered.append(frame.position)
        return frame.position < 2

    far.deliver_to(take)
    for position in range(4):
        near.send(holdings(position), flush=position == 3)
    received = [await asyncio.wait_for(far.receive(), 2) for _ in range(2)]
    # `take` refused the third frame, so the fourth waits behind it and is not offered to `take`.
    assert (offered, received) == ([0, 1, 2], [holdings(2), holdings(3)])
    await near.close()


@pytest.mark.parametrize("broken", ["dialling", "accepting"])
async def test_a_receiver_that_raises_loses_the_link_at_both_ends(
    serving: Serving, broken: str
) -> None:
    near, far = await serving.meet()
    link, other = (near, far) if broken == "dialling" else (far, near)

    def take(frame: frames.Frame) -> bool:
        raise RuntimeError("broken")

    link.deliver_to(take)
    other.send(holdings(1))
    for each in (link, other):
        with pytest.raises(LinkClosed, match="this side failed"):
            await asyncio.wait_for(each.receive(), 1)


async def test_a_link_that_is_closed_sends_nothing_at_once_either(serving: Serving) -> None:
    near, far = await serving.meet()
    await near.close()
    with pytest.raises(LinkClosed):
        near.send(holdings(1), flush=True)
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(far.receive(), 2)


async def test_large_frames_pass_on_the_bulk_stream_both_ways(serving: Serving) -> None:
    near, far = await serving.meet()
    changes = frames.Changes(changes=(frames.Learned("s", 1, bytes(150_000)),))
    for source, target in ((near, far), (far, near)):
        source.send(changes, bulk=True)
        assert await asyncio.wait_for(target.receive(), 5) == changes
    await near.close()


async def test_a_frame_beyond_the_limit_is_refused_at_its_sender(serving: Serving) -> None:
    near, _ = await serving.meet()
    too_large = frames.Changes(changes=(frames.Learned("s", 1, bytes(5_000_000)),))
    with pytest.raises(LocalProtocolError, match="exceeds frame_bytes_max"):
        near.send(too_large)
    await near.close()


async def test_sending_faster_than_it_leaves_is_refused_until_it_has_drained(
    serving: Serving,
) -> None:
    near, far = await serving.meet()
    chunk = frames.Changes(changes=(frames.Learned("s", 1, bytes(30_000)),))
    sent = 0
    with pytest.raises(Overloaded) as refused:  # noqa: PT012 - the test checks the count
        while True:
            near.send(chunk, bulk=True)
            sent += 1
    assert refused.value.retry_after_s > 0
    assert 6 <= sent <= 8
    for _ in range(sent):
        await asyncio.wait_for(far.receive(), 5)
    await asyncio.wait_for(near.drained(), 5)
    near.send(chunk, bulk=True)
    await near.close()


async def test_closing_with_a_reason_tells_the_other_end(serving: Serving) -> None:
    near, far = await serving.meet()
    await far.close("not_authorised", "an agent may not")
    with pytest.raises(LinkClosed, match="by the peer: not_authorised: an agent may not"):
        await asyncio.wait_for(near.receive(), 2)
    with pytest.raises(LinkClosed):
        near.send(holdings(1))
    await near.close()


async def test_frames_sent_before_closing_still_arrive(serving: Serving) -> None:
    near, far = await serving.meet()
    near.send(holdings(1))
    await near.close()
    assert await asyncio.wait_for(far.receive(), 2) == holdings(1)
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(far.receive(), 2)


async def test_closing_twice_is_safe(serving: Serving) -> None:
    near, far = await serving.meet()
    for link in (near, near, far, far):
        await link.close()


async def test_the_wrong_kind_is_refused_on_either_side(serving: Serving, world: World) -> None:
    with pytest.raises(Refused) as met_wrong:
        await world.carrier(AGENT).dial(serving.server.address, expect=Kind.SYNC)
    sync = world.carrier(who(Kind.COORDINATOR, "c2"))
    with pytest.raises(Refused) as not_served:
        await sync.dial(serving.server.address, expect=Kind.COORDINATOR)
    assert met_wrong.value.reason == not_served.value.reason == "wrong_kind"
    assert serving.links.empty()


async def test_who_is_not_listed_is_refused(serving: Serving, world: World) -> None:
    world.allow(["coordinator/*", "agent/b*"])
    world.look(serving.carrier, serving.server)
    with pytest.raises(Refused) as refused:
        await serving.meet(AGENT)
    assert refused.value.reason == "not_allowed"
    near, _ = await serving.meet(who(Kind.AGENT, "b7"))
    await near.close()


async def test_who_is_taken_off_the_list_loses_the_link(serving: Serving, world: World) -> None:
    near, far = await serving.meet()
    world.allow(["coordinator/*", "client/*"])
    world.look(serving.carrier, serving.server)
    for link in (near, far):
        with pytest.raises(LinkClosed, match="not_allowed"):
            await asyncio.wait_for(link.receive(), 2)


async def test_what_a_peer_may_append_to_is_what_the_list_in_force_grants(
    serving: Serving, world: World
) -> None:
    client = who(Kind.CLIENT, "u1")
    near, far = await serving.meet(client)
    granted = [str(serving.carrier.grant(far.peer))]
    for entry in ("client/u* universes=stocks,fx", "client/u1 universes=load"):
        world.allow(["coordinator/*", entry])
        world.look(serving.carrier, serving.server)
        granted.append(str(serving.carrier.grant(far.peer)))
    assert granted == ["every universe", "fx, stocks", "load"]
    near.send(holdings(1))  # the changed allowlist still allows this client, so its link stays open
    assert await asyncio.wait_for(far.receive(), 2) == holdings(1)
    await near.close()


async def test_to_ask_for_draining_is_granted_by_the_list_in_force(
    serving: Serving, world: World
) -> None:
    near, far = await serving.meet(who(Kind.CLIENT, "u1"))
    granted = [serving.carrier.grant(far.peer).drain]
    world.allow(["coordinator/*", "client/u* drain"])
    world.look(serving.carrier, serving.server)
    granted.append(serving.carrier.grant(far.peer).drain)
    assert granted == [False, True]
    await near.close()


async def test_more_links_than_allowed_are_refused(serving: Serving) -> None:
    held = [await serving.meet(who(Kind.AGENT, f"a{number}")) for number in range(3)]
    with pytest.raises(Overloaded, match="links_max=3"):
        await serving.meet(who(Kind.AGENT, "a9"))
    for near, _ in held:
        await near.close()


async def test_one_identity_cannot_take_every_link(serving: Serving) -> None:
    refusals = metrics.HANDSHAKES.labels("too_many_links")._value
    held, before = [await serving.meet() for _ in range(2)], refusals.get()
    with pytest.raises(Refused, match="agent/a1 has 2 links here") as refused:
        await serving.meet()
    assert refused.value.reason == "too_many_links"
    assert refusals.get() == before + 1
    held.append(await serving.meet(who(Kind.AGENT, "a2")))
    for near, _ in held:
        await near.close()


async def test_nothing_at_an_address_is_said_at_once(world: World) -> None:
    async with Serving(world) as serving:
        address = serving.server.address
    with pytest.raises(Unavailable):
        await asyncio.wait_for(world.carrier(AGENT).dial(address, expect=Kind.COORDINATOR), 1)


async def test_a_closed_server_closes_its_links(world: World) -> None:
    async with Serving(world) as serving:
        near, _ = await serving.meet()
    with pytest.raises(LinkClosed):
        await asyncio.wait_for(near.receive(), 2)


async def test_a_second_server_on_one_address_is_refused(serving: Serving, world: World) -> None:
    async def ignore(link: Link) -> None:
        await link.close()

    with pytest.raises(MidstreamerError, match=r"in use"):
        await world.carrier(COORDINATOR).serve(serving.server.address, ignore)


def open_links() -> float:
    return sum(shown(metrics.CARRIER_LINKS, carrier=each) for each in label_values.CARRIERS)


async def test_either_end_of_an_open_link_is_counted_by_its_carrier(world: World) -> None:
    before = open_links()
    async with Serving(world) as serving:
        near, far = await serving.meet()
        # With gevent the dialling end is in another process, so only the accepting end is counted.
        ends = 1 if isinstance(near, over_gevent_.GeventEnd) else 2
        assert open_links() == before + ends
        assert shown(metrics.CARRIER_LINKS, carrier=far.scheme) >= ends
        await near.close()
        await eventually(lambda: open_links() == before)


async def test_a_link_that_was_refused_is_not_counted_as_open(world: World) -> None:
    before = open_links()
    async with Serving(world) as serving:
        world.allow(["coordinator/*"])
        world.look(serving.carrier, serving.server)
        with pytest.raises(Refused):
            await serving.meet()
        await eventually(lambda: open_links() == before)
