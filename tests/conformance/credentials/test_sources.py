"""The promises of every credential source, tested on each source and each carrier with TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from midstreamer.client.api import AsyncClient
from midstreamer.domain.errors import LinkClosed, Refused
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol import frames
from midstreamer.runtime import credential_renewal
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Peer, Session
from midstreamer.security import files
from midstreamer.security.credentials import CredentialSource
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.files import AllowlistFile, CertificateManager
from midstreamer.security.local_issuer import AuthorityIssuer, BundleFile
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer.transport import carriers
from midstreamer.transport.carriers import Carriers
from tests.support.identity_builders import DAY_S, Installation, who
from tests.support.link_builders import answer_surveys

SCHEMES = ["quic", "wss"]
CLIENT, COORDINATOR = who(Kind.CLIENT, "u1"), who(Kind.COORDINATOR, "c1")
LIFE_S = 9.0
"""Lifetime of a certificate that a test renews, in seconds; renewal begins in the last third."""
LONG_S = DAY_S
SOON_S = 10.0


@dataclass
class Member:
    """One process of a test: its credential source, its carriers, and its file of trusted CAs."""

    source: CredentialSource
    carrier: Carriers
    bundle: Path


Build = Callable[[Identity, Path, Path, float], CredentialSource]


def of_files(me: Identity, own: Path, authority: Path, life_s: float) -> CredentialSource:
    manager = CertificateManager(
        own,
        me,
        authority_directory=authority,
        days=life_s / DAY_S,
        renew_before_days=life_s / 3 / DAY_S,
    )
    manager.load_or_generate()
    return FileSource(manager, AllowlistFile(authority / "allowlist"))


def in_memory(me: Identity, own: Path, authority: Path, life_s: float) -> CredentialSource:
    return RequestedSource(
        me,
        AuthorityIssuer(authority, days=life_s / DAY_S),
        allowlist=AllowlistFile(authority / "allowlist"),
        bundle=BundleFile(files.trust_path(own)),
    )


SOURCES: dict[str, Build] = {"files": of_files, "memory": in_memory}


@dataclass
class World:
    """An authority, and processes whose credentials come from one kind of source."""

    place: Installation
    folder: Path
    build: Build
    scheme: str
    ends: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:0"

    async def member(
        self, me: Identity, *, life_s: float = LONG_S, place: Installation | None = None
    ) -> Member:
        """Return a process whose certificate comes from the authority of ``place``.

        Without ``place``, the certificate comes from the authority of this `World`.
        """
        signer = (place or self.place).directory
        own = self.folder / me.name
        own.mkdir(parents=True)
        bundle = files.trust_path(own)
        bundle.write_bytes(files.trust_path(signer).read_bytes())
        source = self.build(me, own, signer, life_s)
        await self.ends.enter_async_context(credential_renewal.kept(source))
        carrier = carriers.build(source, limits=self.place.limits)
        return Member(source, carrier, bundle)

    async def server(self, at: Member, *, takes_s: float = 0.0) -> Listener:
        """Start a server with the credentials of ``at``. It answers each Survey after ``takes_s``
        seconds."""

        async def handle(peer: Peer, frame: frames.Frame) -> frames.Answer | None:
            await asyncio.sleep(takes_s)
            return await answer_surveys(peer, frame)

        listener = await peers.listen(at.carrier, self.address, handle=handle)
        self.ends.push_async_callback(listener.close)
        return listener

    async def meet(self, near: Member, far: Listener) -> Peer:
        """Open a link between two processes, and return the dialling end."""
        peer = await peers.dial(near.carrier, far.address, expect=Kind.COORDINATOR)
        self.ends.push_async_callback(peer.close)
        return peer


@pytest.fixture(params=[(name, scheme) for name in SOURCES for scheme in SCHEMES], ids="-".join)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    name, scheme = request.param
    place = Installation(tmp_path / "authority")
    members = World(place, tmp_path / "members", SOURCES[name], scheme)
    async with members.ends:
        yield members


async def test_it_shows_one_identity_and_its_own_key(world: World) -> None:
    member = await world.member(CLIENT)
    shown = member.source.current
    names = shown.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    assert member.source.identity == shown.identity == CLIENT
    assert uris == [CLIENT.uri]
    assert shown.certificate.public_key() == shown.key.public_key()
    assert shown.anchors == (world.place.authority.certificate,)
    assert member.source.complaints == {}


async def test_nothing_is_new_while_nothing_changed(world: World) -> None:
    source = (await world.member(CLIENT)).source
    before = source.current
    assert [source.refresh() for _ in range(5)] == [False] * 5
    assert source.current == before


async def test_links_open_and_both_ends_know_who_the_other_is(world: World) -> None:
    server = await world.server(await world.member(COORDINATOR))
    peer = await world.meet(await world.member(CLIENT), server)
    answer = await peer.ask(frames.Survey(), budget_s=5.0)
    assert peer.identity == COORDINATOR
    assert isinstance(answer, frames.Surveyed)
    assert [each.name for each in answer.members] == [CLIENT.name]


async def test_who_is_taken_off_the_list_loses_the_link(world: World) -> None:
    server = await world.server(await world.member(COORDINATOR))
    client = await world.member(CLIENT)
    peer = await world.meet(client, server)
    world.place.allow("coordinator/*", "agent/*")
    await asyncio.wait_for(peer.wait_closed(), SOON_S)
    with pytest.raises(Refused, match="not_allowed"):
        await world.meet(client, server)


async def test_a_changed_bundle_lets_in_and_turns_away_without_a_restart(
    world: World, tmp_path: Path
) -> None:
    elsewhere = Installation(tmp_path / "elsewhere")
    coordinator = await world.member(COORDINATOR)
    server = await world.server(coordinator)
    stranger = await world.member(CLIENT, place=elsewhere)
    ours, theirs = coordinator.bundle.read_bytes(), stranger.bundle.read_bytes()
    stranger.bundle.write_bytes(theirs + ours)
    with pytest.raises(Refused, match="unknown_authority"):
        await world.meet(stranger, server)
    coordinator.bundle.write_bytes(ours + theirs)
    coordinator.carrier.look()
    peer = await world.meet(stranger, server)
    coordinator.bundle.write_bytes(ours)
    await asyncio.wait_for(peer.wait_closed(), SOON_S)


async def test_a_broken_bundle_is_complained_of_and_leaves_the_old_one_in_force(
    world: World,
) -> None:
    coordinator = await world.member(COORDINATOR)
    server = await world.server(coordinator)
    right = coordinator.bundle.read_bytes()
    coordinator.bundle.write_text("nonsense")
    coordinator.carrier.look()
    await world.meet(await world.member(CLIENT), server)
    assert list(coordinator.source.complaints) == ["bundle"]
    coordinator.bundle.write_bytes(right)
    coordinator.carrier.look()
    assert coordinator.source.complaints == {}


async def test_an_expired_certificate_is_refused_until_there_is_a_new_one(world: World) -> None:
    server = await world.server(await world.member(COORDINATOR))
    client = await world.member(CLIENT, life_s=2.0)
    peer = await world.meet(client, server)
    path = files.authority_path(world.place.directory)
    kept = path.rename(path.with_suffix(".kept"))
    await asyncio.wait_for(peer.wait_closed(), SOON_S)
    assert client.source.current.not_after_s <= time.time()
    with pytest.raises((Refused, LinkClosed), match="expired"):
        await world.meet(client, server)
    kept.rename(path)
    assert (await _met_at_last(world, client, server)).identity == COORDINATOR


async def _met_at_last(world: World, near: Member, far: Listener) -> Peer:
    async with asyncio.timeout(30.0):
        while True:
            try:
                return await world.meet(near, far)
            except (Refused, LinkClosed):
                await asyncio.sleep(0.05)


# --- under load ----------------------------------------------------------------------------------


@dataclass
class Load:
    """Requests sent over a session every few milliseconds, so that some are always in progress."""

    session: Session
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)
    """Ids of the links that carried requests."""

    async def run(self, until_s: float) -> None:
        async with asyncio.TaskGroup() as under_way:
            while time.time() < until_s:
                under_way.create_task(self._ask())
                await asyncio.sleep(0.005)

    async def _ask(self) -> None:
        try:
            self.peers.add(id(self.session.peer))
            await self.session.ask(frames.Survey(), budget_s=5.0)
            self.answered += 1
        except Exception as error:
            self.failed.append(f"{time.time():.2f} {type(error).__name__}: {error}")


async def _loaded(
    world: World, client: Member, coordinator: Member, *, link_age_s: float, for_s: float
) -> Load:
    server = await world.server(coordinator, takes_s=0.05)
    session = Session(
        client.carrier, server.address, expect=Kind.COORDINATOR, link_age_s=link_age_s
    )
    load = Load(session)
    keeping = asyncio.create_task(session.run())
    try:
        await session.live(5.0)
        await load.run(time.time() + for_s)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
    return load


@pytest.mark.parametrize("renewing_side", ["dialling", "serving"])
async def test_a_renewal_is_taken_up_under_load_and_no_request_fails(
    world: World, renewing_side: str
) -> None:
    """The load lasts longer than a certificate, so a peer with its old certificate would fail."""
    dials = renewing_side == "dialling"
    client = await world.member(CLIENT, life_s=LIFE_S if dials else LONG_S)
    coordinator = await world.member(COORDINATOR, life_s=LONG_S if dials else LIFE_S)
    renewed = client if dials else coordinator
    before = renewed.source.current
    load = await _loaded(
        world, client, coordinator, link_age_s=3600.0 if dials else 1.5, for_s=LIFE_S * 1.6
    )
    assert renewed.source.current.certificate != before.certificate
    assert before.not_after_s < time.time() - 1.0
    assert renewed.source.complaints == {}
    assert load.failed == []
    assert load.answered > 500
    assert len(load.peers) >= 3


async def test_a_client_of_the_sdk_takes_a_ready_source(world: World) -> None:
    server = await world.server(await world.member(COORDINATOR))
    client = await world.member(CLIENT)
    async with AsyncClient.connect(server.address, credentials=client.source) as sdk:
        assert [each.name for each in (await sdk.survey()).members] == ["client/u1"]
