"""A session whose address leads to several servers, by DNS or because they share the address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from midstreamer.domain.errors import DeadlineExceeded, Overloaded, Refused, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.runtime import name_lookups, servers_to_avoid
from midstreamer.runtime.peer import Session
from midstreamer.transport.memory import MemoryNetwork
from tests.support import virtual_time
from tests.support.several_servers import NAME, SHARED, Server, SeveralCarrier, survey


@asynccontextmanager
async def _several(
    address: str | list[str], *names: str
) -> AsyncIterator[tuple[Session, SeveralCarrier, list[Server]]]:
    network = MemoryNetwork()
    servers = [Server(name, f"10.0.0.{at}:7400") for at, name in enumerate(names, 1)]
    for server in servers:
        await server.listen(network)
    carrier = SeveralCarrier(network, servers)
    session = Session(carrier, address, expect=Kind.COORDINATOR)
    running = asyncio.create_task(session.run())
    try:
        yield session, carrier, servers
    finally:
        running.cancel()
        await asyncio.wait({running})
        for server in servers:
            await server.listener.close()


def _on_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        await test()

    def run() -> None:
        virtual_time.run(main())

    run.__name__ = test.__name__
    return run


def _linked(session: Session) -> str:
    assert session.peer is not None
    return session.peer.identity.name.removeprefix("coordinator/")


# tests of several servers behind one shared address


@_on_virtual_time
async def test_a_draining_server_behind_a_shared_address_is_left_out_at_once() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0, 0, 0, 0, 1]
        await survey(session)
        assert _linked(session) == "c1"
        servers[0].drain()
        took_s = [await survey(session) for _ in range(20)]
        assert max(took_s) < 0.5
        assert [name for _, _, name in carrier.dialled] == ["c1", "c1", "c1", "c1", "c2"]
        assert _linked(session) == "c2"
        # The first survey, and at most one more before the client knew that this server drains.
        assert len(servers[0].asked_s) <= 2


@_on_virtual_time
async def test_one_that_drains_and_takes_no_new_link_is_left_out_too() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0, 0, 0, 0, 1]
        await survey(session)
        servers[0].listener.refuse_new()
        servers[0].drain()
        took_s = [await survey(session) for _ in range(20)]
        assert max(took_s) < 0.5
        assert _linked(session) == "c2"


@_on_virtual_time
async def test_the_only_server_behind_an_address_is_taken_though_it_drains() -> None:
    async with _several(SHARED, "c1") as (session, carrier, servers):
        await survey(session)
        # The server drains this link but accepts new links.
        servers[0].listener.peers[0].drain(leaving=True)
        await asyncio.sleep(2.0)
        assert _linked(session) == "c1"
        assert len(carrier.dialled) == 2 + servers_to_avoid.TRIES_AWAY


@_on_virtual_time
async def test_an_address_that_only_sends_away_is_dialled_no_more_than_a_few_times_a_second() -> (
    None
):
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        await survey(session)
        for server in servers:
            server.drain()
        began_s = asyncio.get_running_loop().time()
        await asyncio.sleep(60.0)
        dials = [at_s for at_s, _, _ in carrier.dialled if at_s > began_s]
        most = max(sum(s <= at_s < s + 1.0 for at_s in dials) for s in dials)
        assert most <= servers_to_avoid.BURST + 6
        assert len(dials) < 60 * servers_to_avoid.PER_S + servers_to_avoid.BURST + 60


@_on_virtual_time
async def test_a_link_that_failed_is_followed_by_one_to_another_server() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0, 0, 1]
        await survey(session)
        carrier.network.cut(servers[0].address)
        assert await survey(session) < 0.5
        assert _linked(session) == "c2"


@_on_virtual_time
async def test_the_same_server_is_taken_at_once_when_it_was_found_alone_before() -> None:
    async with _several(SHARED, "c1") as (session, carrier, servers):
        dials = []
        for _ in range(3):
            before = len(carrier.dialled)
            await survey(session)
            dials.append(len(carrier.dialled) - before)
            carrier.network.cut(servers[0].address)
            await asyncio.sleep(0.01)
        assert dials == [1, 1 + servers_to_avoid.TRIES_FAILED, 1]


@_on_virtual_time
async def test_a_server_that_drained_and_is_gone_costs_less_than_a_second() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0, 0, 0, 0, 0, 1]
        await survey(session)
        servers[0].drain()
        servers[0].silent = True
        assert max([await survey(session) for _ in range(5)]) < 1.0
        assert _linked(session) == "c2"


@_on_virtual_time
async def test_a_server_that_died_behind_a_shared_address_costs_about_a_second() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0, 0, 0, 1]
        await survey(session)
        servers[0].silent = True
        carrier.network.cut(servers[0].address)
        assert await survey(session) < 1.2
        assert _linked(session) == "c2"


@_on_virtual_time
async def test_a_server_that_refuses_us_is_not_asked_again_at_once() -> None:
    async with _several(SHARED, "c1", "c2") as (session, carrier, servers):
        carrier.turns = [0]
        await survey(session)
        dialled = 0

        async def refuse(address: str, *, expect: Kind) -> None:
            nonlocal dialled
            dialled += 1
            raise Refused("client/u1 is not on the allowlist")

        carrier.dial = refuse  # type: ignore[method-assign, assignment]
        servers[0].drain()
        await asyncio.sleep(0.3)
        assert 1 <= dialled <= 4


# --- tests of one name that resolves to several servers -------------------------------------------


@_on_virtual_time
async def test_a_name_gives_each_of_its_servers_a_chance() -> None:
    seen = set()
    for _ in range(40):
        async with _several(NAME, "c1", "c2") as (session, _carrier, _servers):
            await survey(session)
            seen.add(_linked(session))
    assert seen == {"c1", "c2"}


@_on_virtual_time
async def test_a_draining_server_behind_a_name_is_not_dialled_again() -> None:
    async with _several(NAME, "c1", "c2") as (session, carrier, servers):
        await survey(session)
        linked = next(server for server in servers if server.name == _linked(session))
        linked.drain()
        took_s = [await survey(session) for _ in range(50)]
        assert max(took_s) < 0.5
        assert [name for _, _, name in carrier.dialled].count(linked.name) == 1


@_on_virtual_time
async def test_a_name_is_looked_up_before_each_dial_so_a_new_server_is_found() -> None:
    async with _several(NAME, "c1", "c2") as (session, carrier, servers):
        carrier.named = [servers[0].address]
        await asyncio.sleep(0)
        await survey(session)
        looked_up = carrier.looked_up
        carrier.named = [servers[1].address]
        carrier.network.cut(servers[0].address)
        await survey(session)
        assert _linked(session) == "c2"
        assert carrier.looked_up > looked_up


@_on_virtual_time
async def test_a_look_up_that_fails_leaves_the_places_known_before() -> None:
    async with _several(NAME, "c1", "c2") as (session, carrier, servers):
        await survey(session)
        carrier.lookup_error = Unavailable("'pods.test' has no address: try again")
        linked = next(server for server in servers if server.name == _linked(session))
        linked.drain()
        assert max([await survey(session) for _ in range(5)]) < 0.5
        assert _linked(session) != linked.name


@_on_virtual_time
async def test_a_silent_resolver_does_not_delay_known_places() -> None:
    async with _several([NAME, "10.0.0.1:7400"], "c1", "c2") as (session, carrier, _servers):
        carrier.resolving = asyncio.Event()
        assert await survey(session) <= name_lookups.KNOWN_S + 0.01
        carrier.network.cut("10.0.0.1:7400")
        assert await survey(session) < 0.5
        assert carrier.looked_up == 1, "more than one look-up ran at a time"


@_on_virtual_time
async def test_a_name_that_is_not_found_is_looked_up_ever_more_rarely_and_reported() -> None:
    async with _several(NAME, "c1") as (session, carrier, _servers):
        carrier.lookup_error = Unavailable("'pods.test' has no address: not known")
        with pytest.raises(Unavailable, match="has no address"):
            await session.reached(5.0)
        with pytest.raises(DeadlineExceeded, match="has no address"):
            await session.live(20.0)
        assert 10 < carrier.looked_up < 30
        carrier.lookup_error = None
        assert await survey(session) <= 2.0


@_on_virtual_time
async def test_a_resolver_that_never_answers_is_reported_with_the_name() -> None:
    async with _several(NAME, "c1") as (session, carrier, _servers):
        carrier.resolving = asyncio.Event()
        with pytest.raises(Unavailable, match="resolver gave no address of 'pods"):
            await session.reached(6.0)
        carrier.resolving.set()
        await survey(session)
        assert carrier.looked_up <= 2


@_on_virtual_time
async def test_a_full_server_behind_a_name_is_left_for_another_at_once() -> None:
    async with _several(NAME, "c1", "c2") as (session, carrier, servers):
        dial = carrier.dial

        async def full(address: str, *, expect: Kind) -> object:
            if address == servers[0].address:
                raise Overloaded("no place is free")
            return await dial(address, expect=expect)

        carrier.dial = full  # type: ignore[method-assign, assignment]
        assert await survey(session) < 0.1
        assert _linked(session) == "c2"
