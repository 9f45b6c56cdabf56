"""Clients that use other QUIC libraries work with a fleet.

They send large frames, renew their TLS keys and change their ports. The fleet lets no client resume
a TLS session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from aioquic import tls

from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column
from midstreamer.protocol import codec, frames
from midstreamer.runtime.peer import dial
from midstreamer.transport import halfopen
from midstreamer.transport.aioquic.server import QuicServer
from midstreamer.transport.aioquic.wire import QuicWire
from midstreamer.transport.hosts import SocketAddress
from tests.integration.test_transport_floods import flood
from tests.support.fleet import a_column, a_specification, a_window
from tests.support.identity_builders import Installation, credentials, who
from tests.support.interop import ForeignClient, Ports, QuicFleet, from_json, quic_fleet

pytestmark = pytest.mark.integration

CLIENT = who(Kind.CLIENT, "u1")
MB = 1024 * 1024
LARGE = pytest.mark.parametrize("megabytes", [1, 2, 4])


@pytest.fixture
async def fleet(place: Installation) -> AsyncIterator[QuicFleet]:
    async with quic_fleet(place) as started:
        yield started


@pytest.fixture
def connecting(fleet: QuicFleet, ports: Ports) -> dict[str, object]:
    address = fleet.coordinator().address
    return ports.connecting(address, credentials(ports.place.authority, CLIENT))


@pytest.fixture
async def user(client: ForeignClient, connecting: dict[str, object]) -> ForeignClient:
    """A client that has completed the TLS and protocol handshakes."""
    assert (await client.do("connect", **connecting)).ok
    await client.greet(CLIENT)
    return client


def columns(ticks: int, *, series: int = 10) -> tuple[Column, ...]:
    each = ticks // series
    return tuple(a_column(each, series=f"walk/{n:02d}", seed=n) for n in range(series))


def padding(frame: frames.Frame, size: int) -> int:
    """Return how many bytes of padding give the frame about this size."""
    return max(0, size - len(codec.encode(frame)) - 64)


def wire_of(fleet: QuicFleet) -> QuicWire:
    """Return the server's side of the QUIC connection to the client."""
    listener = fleet.coordinator()._server
    assert listener is not None
    server = listener._inside.server
    assert isinstance(server, QuicServer)
    (found,) = [w for w, each in server._judged.items() if each.identity == CLIENT]
    return found


# --- large frames ---------------------------------------------------------------------------------


@LARGE
async def test_an_append_of_megabytes_is_stored(
    user: ForeignClient, client_name: str, note: Callable[[str], None], megabytes: int
) -> None:
    size = megabytes * MB
    request = frames.Append(request=1, columns=columns(min(size // 17, frames.TICKS_MAX)))
    reply = await user.ask(request, pad=padding(request, size))
    answer = from_json(reply.frame, frames.Appended)
    assert isinstance(answer, frames.Appended)
    assert size - 256 < reply["sent_bytes"] <= size + codec.HEAD_BYTES
    assert answer.stored == sum(map(len, request.columns))
    note(f"{client_name}: Append of {reply['sent_bytes']:,} B answered in {reply['took_s']:.2f} s")


@LARGE
async def test_a_match_of_megabytes_is_decided_as_for_our_own_client(
    user: ForeignClient,
    client_name: str,
    fleet: QuicFleet,
    place: Installation,
    note: Callable[[str], None],
    megabytes: int,
) -> None:
    append = frames.Append(request=1, columns=columns(36_000, series=3))
    position = (await user.ask(append)).frame["position"]
    history = append.columns[0]
    # The answer must be large, but within the limit for answers. Long windows make it large. Only
    # 8 analogs are wanted, because the limit counts each analog as if its series had the longest
    # possible name.
    wanted = a_specification(window=2048, neighbours=8, band=0, grid=8)
    count = min(160, 60 * megabytes)
    ends = range(12_000 - 37 * count, 12_000, 37)
    request = frames.Match(
        request=2,
        specification=wanted,
        windows=tuple(a_window(history, end, wanted.window) for end in ends),
        at_least=position,
        record=False,
    )
    reply = await user.ask(request, pad=padding(request, megabytes * MB))
    theirs = from_json(reply.frame, frames.Matched)
    us = await dial(
        place.carrier(who(Kind.CLIENT, "u2")),
        fleet.coordinator().address,
        expect=Kind.COORDINATOR,
    )
    ours = await us.ask(request, budget_s=30.0)
    await us.close()
    assert isinstance(theirs, frames.Matched)
    assert isinstance(ours, frames.Matched)
    assert megabytes * MB - 256 < reply["sent_bytes"] <= megabytes * MB + codec.HEAD_BYTES
    assert reply["came_bytes"] > min(2.5, 0.9 * megabytes) * MB
    assert msgspec.msgpack.encode(theirs.decisions) == msgspec.msgpack.encode(ours.decisions)
    assert len(theirs.decisions) == len(request.windows)
    note(
        f"{client_name}: Match of {reply['sent_bytes']:,} B answered with"
        f" {reply['came_bytes']:,} B in {reply['took_s']:.2f} s"
    )


@dataclass
class Datagrams:
    """The sizes of the datagrams that a server sends to one address."""

    sizes: list[int] = field(default_factory=list)

    def watch(self, wire: QuicWire) -> None:
        """From now on, record the size of every datagram to the peer of a connection."""
        server, peer = wire._owner, wire.quic._network_paths[0].addr
        send = server.send

        def noted(data: bytes, address: SocketAddress) -> None:
            if address == peer:
                self.sizes.append(len(data))
            send(data, address)

        server.send = noted  # type: ignore[method-assign]


@pytest.mark.parametrize("packet_bytes", [1200, 1350])
async def test_large_answers_come_in_datagrams_no_larger_than_the_client_takes(
    client: ForeignClient,
    client_name: str,
    fleet: QuicFleet,
    connecting: dict[str, object],
    packet_bytes: int,
) -> None:
    assert (await client.do("connect", **connecting, packet_bytes=packet_bytes)).ok
    await client.greet(CLIENT)
    datagrams = Datagrams()
    datagrams.watch(wire_of(fleet))
    history = a_column(6000, series="walk/a")
    await client.ask(frames.Append(request=1, columns=(history,)))
    windows = tuple(a_window(history, end, 2048) for end in range(3000, 3020))
    wanted = a_specification(window=2048, neighbours=100, band=0, grid=8)
    request = frames.Match(request=2, specification=wanted, windows=windows, record=False)
    reply = await client.ask(request)
    assert reply.frame["frame"] == "Matched"
    assert reply["came_bytes"] > 300_000
    # A datagram to quinn may have up to `packet_bytes` bytes. A datagram to quic-go may have up to
    # 1452 bytes, because `packet_bytes` limits only the packets that quic-go itself sends.
    assert max(datagrams.sizes) <= {"quic-go": 1452, "quinn": packet_bytes}[client_name]


# --- keys, ports, tickets -------------------------------------------------------------------------


async def survey(user: ForeignClient, number: int) -> None:
    assert (await user.ask(frames.Survey(request=number))).frame["request"] == number


def phase(wire: QuicWire) -> int:
    return int(wire.quic._cryptos[tls.Epoch.ONE_RTT].recv.key_phase)


async def test_a_client_changes_keys_and_is_understood(
    user: ForeignClient, fleet: QuicFleet
) -> None:
    wire, before = wire_of(fleet), phase(wire_of(fleet))
    changed = await user.do("update_keys")
    # quic-go has no call that updates the keys; it updates them by itself after 100 packets.
    for number in range(1, 400):
        await survey(user, number)
        if phase(wire) != before:
            break
    assert phase(wire) != before
    await survey(user, 1000)
    assert changed.ok or "unsupported" in changed["reason"]


async def test_a_server_changes_keys_and_is_understood(
    user: ForeignClient, fleet: QuicFleet
) -> None:
    await survey(user, 1)
    wire = wire_of(fleet)
    for number in range(2, 5):
        before = phase(wire)
        wire.quic.request_key_update()
        await survey(user, number)
        assert phase(wire) != before
        # The server may update the keys again only after the client has confirmed the new keys. The
        # answer to one more request shows that the client has confirmed them.
        await survey(user, 10 * number)


# The client must not notice the change of its port, as behind a NAT that lost its mapping. The test
# client on quinn cannot do this: it changes its port only by a migration, which quinn itself makes.
@pytest.mark.parametrize("client_name", ["quic-go"], indirect=True)
async def test_a_client_whose_port_changed_beneath_it_goes_on(
    user: ForeignClient, fleet: QuicFleet
) -> None:
    await survey(user, 1)
    wire, before = wire_of(fleet), wire_of(fleet).quic._network_paths[0].addr
    moved = await user.do("rebind")
    assert moved.ok, moved.fields
    await survey(user, 2)
    await survey(user, 3)
    assert wire.quic._network_paths[0].addr != before


async def test_a_client_that_migrates_goes_on(user: ForeignClient, fleet: QuicFleet) -> None:
    await survey(user, 1)
    wire, before = wire_of(fleet), wire_of(fleet).quic._network_paths[0].addr
    moved = await user.do("migrate")
    assert moved.ok, moved.fields
    await survey(user, 2)
    await survey(user, 3)
    assert wire.quic._network_paths[0].addr != before


async def test_no_ticket_is_issued_and_no_data_goes_before_the_handshake(
    client: ForeignClient, connecting: dict[str, object]
) -> None:
    for number in (1, 2):
        connected = await client.do("connect", **connecting, early=True)
        assert connected.ok, connected.fields
        await client.greet(CLIENT)
        await survey(client, number)
        facts = await client.do("facts")
        assert (facts["tickets"], facts["resumed"], facts["early"]) == (0, False, False)
        await client.do("close")


async def test_a_session_cannot_be_resumed_without_a_certificate(
    client: ForeignClient, connecting: dict[str, object]
) -> None:
    await client.do("connect", **connecting)
    await client.greet(CLIENT)
    await client.do("close")
    end = await client.do("connect", **{**connecting, "certificate": ""}, early=True)
    end = await client.do("end") if end.ok else end
    assert (end.code, end["error"]) == ("no_certificate", 0x100 + 116)


# --- under a flood --------------------------------------------------------------------------------


async def test_a_client_proves_its_address_and_gets_in(
    client: ForeignClient,
    fleet: QuicFleet,
    connecting: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(halfopen, "UNPROVEN_MAX", 0)
    connected = await client.do("connect", **connecting)
    assert connected.ok, connected.fields
    await client.greet(CLIENT)
    await survey(client, 1)
    assert wire_of(fleet).quic._retry_source_connection_id is not None


async def test_a_client_gets_in_while_forged_senders_flood_the_port(
    client: ForeignClient, fleet: QuicFleet, connecting: dict[str, object]
) -> None:
    listener = fleet.coordinator()._server
    assert listener is not None
    server = listener._inside.server
    assert isinstance(server, QuicServer)
    await flood(server, 300)
    assert server._half_open.crowded
    connected = await client.do("connect", **connecting)
    assert connected.ok, connected.fields
    await client.greet(CLIENT)
    await survey(client, 1)
    assert wire_of(fleet).quic._retry_source_connection_id is not None
