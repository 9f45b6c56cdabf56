"""A client with a source of credentials waits for a certificate and renews it while open."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.client.blocking import Client
from midstreamer.domain.errors import BadInput, DeadlineExceeded
from midstreamer.domain.identity import Kind
from midstreamer.security.requested_credentials import RequestedSource
from midstreamer.transport import carriers
from tests.support.identity_builders import who
from tests.support.scripted_issuers import ScriptedIssuer

CLIENT = who(Kind.CLIENT, "u1")
NOBODY = "127.0.0.1:1"
AWAY = ConnectionRefusedError(111, "Connection refused")


def renewing() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "renewal" in task.get_name()]


async def test_the_client_waits_for_a_certificate_renews_it_while_open_and_ends_that() -> None:
    issuer = ScriptedIssuer(script=[AWAY])
    source = RequestedSource(CLIENT, issuer, dice=lambda: 0.0)
    client = AsyncClient.connect(NOBODY, credentials=source)
    async with client:
        assert source.waiting == ""
        assert source.current.identity == CLIENT
        assert renewing() == ["security.renewal"]
    assert renewing() == []
    assert len(issuer.asked_s) == 2
    await client.close()


async def test_a_missing_certificate_is_reported_with_the_reason_at_the_deadline() -> None:
    source = RequestedSource(CLIENT, ScriptedIssuer(always=AWAY))
    client = AsyncClient.connect(NOBODY, credentials=source, deadline_s=0.2)
    with pytest.raises(DeadlineExceeded) as raised:
        await client.__aenter__()
    assert raised.value.message == (
        "no certificate for client/u1 within deadline_s = 0.2 s:"
        " the issuer cannot be reached: Connection refused"
    )
    assert renewing() == []


def test_a_blocking_client_without_a_certificate_leaves_no_thread() -> None:
    source = RequestedSource(CLIENT, ScriptedIssuer(always=AWAY))
    with (
        pytest.raises(DeadlineExceeded, match="Connection refused"),
        Client.connect(NOBODY, credentials=source, deadline_s=0.2),
    ):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "midstreamer.client"]


def test_a_blocking_client_takes_a_source_too() -> None:
    source = RequestedSource(CLIENT, ScriptedIssuer())
    with Client.connect(NOBODY, credentials=source):
        assert source.current.identity == CLIENT


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "name the directory"),
        ({"directory": Path("certs"), "credentials": 1}, "not both"),
        ({"identity": "client/u1", "credentials": 1}, "not both"),
    ],
)
def test_a_client_is_given_files_or_a_source(given: dict[str, object], what: str) -> None:
    if "credentials" in given:
        given = given | {"credentials": RequestedSource(CLIENT, ScriptedIssuer())}
    with pytest.raises(BadInput, match=what):
        AsyncClient.connect(NOBODY, **given)  # type: ignore[arg-type]


async def test_a_certificate_that_is_not_renewed_is_a_warning_of_the_process() -> None:
    issuer = ScriptedIssuer(life_s=1.5, now=lambda: time.time() + 0.5)
    source = RequestedSource(CLIENT, issuer)
    await source.obtain()
    carrier = carriers.build(source)
    assert carrier.warnings() == []
    issuer.always = AWAY
    async with asyncio.timeout(10):
        running = asyncio.create_task(source.run())
        while not carrier.warnings():  # noqa: ASYNC110 - seconds of a real certificate pass
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait({running})
    assert carrier.warnings() == [
        "no new certificate was obtained, so the present certificate stays in force:"
        " see security.unchanged in the log"
    ]
