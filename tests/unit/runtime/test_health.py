"""The health port answers probes and scrapes, and survives any other bytes."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import health


async def ask(address: str, request: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_probe_learns_why_a_service_is_not_ready() -> None:
    async with health.served("127.0.0.1:0", health.Checks(lambda: "no lease yet")) as address:
        answer = await ask(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        alive = await ask(address, b"GET /livez HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"no lease yet\n")
    assert alive.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("reason", "status"), [("", b"200 OK"), ("no lease yet", b"503 ")])
async def test_a_warning_stands_behind_readiness_and_changes_nothing_else(
    reason: str, status: bytes
) -> None:
    checks = health.Checks(lambda: reason, warnings=lambda: ["the bundle file is wrong"])
    async with health.served("127.0.0.1:0", checks) as address:
        answer = await ask(address, b"GET /readyz HTTP/1.1\r\n\r\n")
        alive = await ask(address, b"GET /livez HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"\nwarning: the bundle file is wrong\n")
    assert alive.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", b"text/plain; version=0.0.4"),
        (b"Accept: text/plain\r\n", b"text/plain; version=0.0.4"),
        (b"ACCEPT: application/openmetrics-text;version=1.0.0;q=0.5,*/*\r\n", b"openmetrics-text"),
        (b"X-Not-Accept: application/openmetrics-text\r\n", b"text/plain; version=0.0.4"),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for(
    headers: bytes, expected: bytes
) -> None:
    answer = health.respond(
        b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n", health.Checks(health.well)
    )
    assert expected in answer.content_type.encode()
    assert answer.body.endswith(b"# EOF\n") == (expected == b"openmetrics-text")


async def test_a_missing_part_is_reported_and_leaves_the_process_ready() -> None:
    missing = "3 shards are held by no connected agent"
    checks = health.Checks(health.well, complete=lambda: missing)
    async with health.served("127.0.0.1:0", checks) as address:
        ready = await ask(address, b"GET /readyz HTTP/1.1\r\n\r\n")
        complete = await ask(address, b"GET /completez HTTP/1.1\r\n\r\n")
        scraped = await ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert ready.startswith(b"HTTP/1.1 200 ")
    assert ready.endswith(f"\r\n\r\nok\nincomplete: {missing}\n".encode())
    assert complete.startswith(b"HTTP/1.1 503 ")
    assert complete.endswith(f"\r\n\r\n{missing}\n".encode())
    assert b"\nmidstreamer_complete 0.0\n" in scraped


async def test_metrics_are_served_in_their_format() -> None:
    async with health.served("127.0.0.1:0", health.Checks(health.well)) as address:
        answer = await ask(address, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
    assert b"version=0.0.4" in answer
    assert b"midstreamer_pattern_matches_total" in answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /else HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n", b"400"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ],
)
async def test_a_bad_request_is_answered_and_the_next_one_served(
    request_bytes: bytes, status: bytes
) -> None:
    async with health.served("127.0.0.1:0", health.Checks(health.well)) as address:
        answer = await ask(address, request_bytes)
        after = await ask(address, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert after.endswith(b"ok\n")


async def test_head_gets_no_body() -> None:
    async with health.served("127.0.0.1:0", health.Checks(health.well)) as address:
        assert (await ask(address, b"HEAD /livez HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


async def test_a_port_in_use_is_reported_with_the_setting_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"telemetry.listen = {address}"):
            async with health.served(address, health.Checks(health.well)):
                pass


async def test_without_an_address_no_port_is_opened() -> None:
    async with health.served(None, health.Checks(health.well)) as address:
        assert address == ""


@given(st.binary(max_size=200))
def test_any_bytes_get_a_response(head: bytes) -> None:
    response = health.respond(head, health.Checks(health.well))
    assert response.status in health.REASONS
