"""Connections through an HTTP proxy: only if a setting asks for it, and only by CONNECT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from midstreamer.domain.errors import ConfigError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.runtime import peer as peers
from midstreamer.runtime.peer import Listener
from midstreamer.transport import carriers
from midstreamer.transport.carriers import Carriers
from midstreamer.transport.websocket.proxy import way_to
from tests.support.identity_builders import Installation, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

PASSWORD = "zu-geheim"


class Proxy:
    """A proxy that connects sockets on CONNECT, and records the requests."""

    def __init__(self, status: str = "200 OK") -> None:
        self.requests: list[bytes] = []
        self.address = ""
        self._status = status
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        request = await near_in.readuntil(b"\r\n\r\n")
        self.requests.append(request)
        near_out.write(f"HTTP/1.1 {self._status}\r\nVia: us\r\n\r\n".encode())
        if not self._status.startswith("200"):
            near_out.close()
            return
        host, _, port = request.split(b" ")[1].decode().rpartition(":")
        far_in, far_out = await asyncio.open_connection(host, int(port))
        for source, target in ((near_in, far_out), (far_in, near_out)):
            task = asyncio.create_task(_copy(source, target))
            self._tasks.add(task)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
    except ConnectionError:
        pass
    finally:
        target.transport.abort()


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return Installation(tmp_path, scheme="wss")


@pytest.fixture
async def listening(place: Installation) -> AsyncIterator[Listener]:
    listener = await peers.listen(
        place.carrier(who(Kind.COORDINATOR)), "127.0.0.1:0", handle=answer_surveys
    )
    yield listener
    await listener.close()


def a_client(place: Installation, proxy: str) -> Carriers:
    return carriers.build(place.source(who(Kind.CLIENT)), limits=place.limits, proxy=proxy)


async def dial(carrier: Carriers, listening: Listener) -> None:
    link = await carrier.dial(listening.address, expect=Kind.COORDINATOR)
    await link.close()


async def test_a_proxy_that_is_set_leads_to_the_server(
    place: Installation, listening: Listener
) -> None:
    async with Proxy() as proxy:
        await dial(a_client(place, f"http://{proxy.address}"), listening)
        where = listening.address.removeprefix("wss://")
        assert proxy.requests[0].startswith(f"CONNECT {where} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    ("setting", "without", "used"),
    [("", "", False), ("environment", "", True), ("environment", "127.0.0.1", False)],
)
async def test_the_environment_counts_when_a_setting_says_so(
    place: Installation,
    listening: Listener,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    without: str,
    used: bool,
) -> None:
    async with Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:{PASSWORD}@{proxy.address}")
        monkeypatch.setenv("no_proxy", without)
        await dial(a_client(place, setting), listening)
        assert len(proxy.requests) == int(used)
        assert all(b"Proxy-Authorization: Basic" in request for request in proxy.requests)


async def test_a_proxy_that_says_no_is_named_with_what_it_said(
    place: Installation, listening: Listener
) -> None:
    async with Proxy("403 Forbidden") as proxy:
        with pytest.raises(Unavailable, match=f"the proxy {proxy.address} .* 403 Forbidden"):
            await dial(a_client(place, f"http://{proxy.address}"), listening)


async def test_a_proxy_that_is_not_there_is_said_in_time(
    place: Installation, listening: Listener
) -> None:
    async with Proxy() as proxy:
        gone = proxy.address
    with pytest.raises(Unavailable):
        await dial(a_client(place, f"http://{gone}"), listening)


@pytest.mark.parametrize("proxy", ["socks5://p:1080", "https://p:443"])
def test_another_kind_of_proxy_is_refused_by_name(proxy: str) -> None:
    with pytest.raises(ConfigError, match=proxy.partition(":")[0]):
        way_to("h:7400", proxy)


def test_an_error_about_a_proxy_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", f"http://me:{PASSWORD}@p:80/path?query")
    with pytest.raises(ConfigError) as refused:
        way_to("h:7400", "environment")
    assert PASSWORD not in str(refused.value)
