"""Certificates, bundles and allowlists change on disk while a process runs, without a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from midstreamer.client.api import AsyncClient
from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer.runtime import health
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener, Peer
from midstreamer.security import files
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.files import CertificateManager
from midstreamer.telemetry import metrics
from midstreamer.transport.aioquic import QuicCarrier
from midstreamer.transport.carrier import Link, Server
from tests.support.identity_builders import DAY_S, DOMAIN, Installation, quic_carrier, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

ANY_PORT = "127.0.0.1:0"
AGENT, CLIENT, COORDINATOR = who(Kind.AGENT, "a1"), who(Kind.CLIENT, "u1"), who(Kind.COORDINATOR)


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "certs")


@pytest.fixture
async def server(place: Installation) -> AsyncIterator[Listener]:
    listener = await peers.listen(place.carrier(COORDINATOR), ANY_PORT, handle=answer_surveys)
    yield listener
    await listener.close()


def a_folder(place: Installation, tmp_path: Path) -> Path:
    """Issue certificates of an agent and a client into a separate folder, without the CA's key."""
    for holder in (AGENT, CLIENT):
        files.issue(place.authority, holder, tmp_path / "own")
    return tmp_path / "own"


def an_agent(folder: Path, *, started_s: float | None = None) -> QuicCarrier:
    manager = CertificateManager(folder, AGENT, now=lambda: started_s or time.time())
    manager.load_or_generate()
    return quic_carrier(FileSource(manager, None))


def swap_bundle(folder: Path, tmp_path: Path) -> Path:
    """Replace the bundle by another authority's; return where the right bundle was moved."""
    kept = files.trust_path(folder).rename(tmp_path / "kept.pem")
    files.init_authority(tmp_path / "other", DOMAIN)
    files.trust_path(tmp_path / "other").rename(files.trust_path(folder))
    return kept


async def dial(carrier: QuicCarrier, server: Listener) -> Peer:
    return await peers.dial(carrier, server.address, expect=Kind.COORDINATOR)


async def test_an_agent_takes_its_bundle_back_after_its_last_link_is_gone(
    place: Installation, server: Listener, tmp_path: Path
) -> None:
    folder = a_folder(place, tmp_path)
    agent = an_agent(folder)
    peer = await dial(agent, server)
    kept = swap_bundle(folder, tmp_path)
    await asyncio.wait_for(peer.wait_closed(), 5)
    with pytest.raises(Refused, match="unknown_authority"):
        await dial(agent, server)
    kept.rename(files.trust_path(folder))
    peer = await dial(agent, server)
    assert peer.identity == COORDINATOR
    await peer.close()


async def test_an_expired_certificate_is_replaced_by_the_renewed_file_lying_there(
    place: Installation, server: Listener, tmp_path: Path
) -> None:
    folder, then_s = a_folder(place, tmp_path), time.time() - 2 * DAY_S
    files.issue(place.authority, AGENT, folder, days=1, now=lambda: then_s)
    agent = an_agent(folder, started_s=then_s)
    with pytest.raises(Refused, match="expired"):
        await dial(agent, server)
    files.issue(place.authority, AGENT, folder)
    peer = await dial(agent, server)
    assert peer.identity == COORDINATOR
    await peer.close()


async def test_the_client_of_the_sdk_takes_its_bundle_back(
    place: Installation, server: Listener, tmp_path: Path
) -> None:
    folder = a_folder(place, tmp_path)
    async with AsyncClient.connect(server.address, directory=folder, deadline_s=10) as client:
        await client.survey()
        kept = swap_bundle(folder, tmp_path)
        with pytest.raises(Refused, match="unknown_authority"):
            await until_it_fails(client)
        kept.rename(files.trust_path(folder))
        await until_it_answers(client)


async def until_it_fails(client: AsyncClient) -> None:
    async with asyncio.timeout(10):
        while True:
            await client.survey()
            await asyncio.sleep(0.05)


async def until_it_answers(client: AsyncClient) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await client.survey()
            except Refused:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_link_that_ended_unnoticed_does_not_stop_the_watch(place: Installation) -> None:
    leave = asyncio.Event()

    async def busy(link: Link) -> None:
        """Keep a link without reading from it, so that nothing notices when the link ends."""
        await leave.wait()

    carrier = place.carrier(COORDINATOR)
    server = await carrier.serve(ANY_PORT, busy)
    link = await place.carrier(AGENT).dial(server.address, expect=Kind.COORDINATOR)
    await link.close()
    await ended_at(server)
    place.allow("coordinator/*", "client/*")
    carrier.look()
    with pytest.raises(Refused, match="not_allowed"):
        await place.carrier(AGENT).dial(server.address, expect=Kind.COORDINATOR)
    leave.set()
    await server.close()


async def ended_at(server: Server) -> None:
    """Wait until the server has noticed the end of its only connection."""
    async with asyncio.timeout(5):
        while server._wire_of:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_no_task_is_left_once_nothing_is_open(
    place: Installation, server: Listener, tmp_path: Path
) -> None:
    agent = an_agent(a_folder(place, tmp_path))
    before = asyncio.all_tasks()
    link = await agent.dial(server.address, expect=Kind.COORDINATOR)
    await link.close()
    await asyncio.sleep(0)
    assert agent._watch._watching is None
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}  # type: ignore[union-attr]
    assert "Watch._watch" not in names


# tests of certificates, bundles and allowlists that contain errors


def told(file: str) -> float:
    return float(metrics.SECURITY_FILE_WRONG.labels(file)._value.get())


@pytest.mark.parametrize("file", ["certificate", "bundle", "allowlist"])
async def test_a_wrong_file_is_told_by_a_metric_and_in_readiness_until_it_is_right(
    place: Installation, file: str
) -> None:
    carrier = place.carrier(COORDINATOR)
    path = {
        "certificate": files.identity_path(place.directory, COORDINATOR),
        "bundle": files.trust_path(place.directory),
        "allowlist": place.allowlist_path,
    }[file]
    right = path.read_bytes()
    path.write_bytes(b"wizard/w1")
    carrier.look()
    checks = health.Checks(health.well, warnings=carrier.warnings)
    async with health.served(ANY_PORT, checks) as address:
        warned, metric_wrong = await readyz(address), told(file)
        path.write_bytes(right)
        carrier.look()
        mended, metric_right = await readyz(address), told(file)
    assert warned.startswith(f"ok\nwarning: the {file} file is not valid, so the version")
    assert (mended, metric_wrong, metric_right) == ("ok\n", 1.0, 0.0)


async def readyz(address: str) -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /readyz HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")
    return answer.decode().partition("\r\n\r\n")[2]


async def test_a_wrong_file_is_said_once_in_the_log(place: Installation) -> None:
    carrier = place.carrier(COORDINATOR)
    files.trust_path(place.directory).write_text("nonsense")
    with capture_logs() as logged:
        for _ in range(3):
            carrier.look()
    assert [line["files"] for line in logged] == [["bundle"]]


async def test_a_coordinator_says_at_its_start_whose_appends_nothing_limits(
    place: Installation,
) -> None:
    place.allow("coordinator/*", "client/u*", "client/quant-* universes=stocks")
    with capture_logs() as logged:
        place.carrier(COORDINATOR)
        place.carrier(AGENT)
    assert [line["clients"] for line in logged if line["event"] == "appends.unlimited"] == [
        ["client/u*"]
    ]
