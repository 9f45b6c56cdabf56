"""A pod that waits for its certificate says so: in an Event, and in its termination message."""

from __future__ import annotations

import asyncio
from pathlib import Path

from midstreamer.cluster import events, telling
from midstreamer.cluster.api import Object
from midstreamer.cluster.telling import Teller
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.security.credentials import Credentials
from tests.support.api_server import ApiServer, Caller, until
from tests.support.operating import NAMESPACE, UID, an_installation

POD = f"{NAMESPACE}/agent-0"
WHY = "signing request mid-agent-0-x was denied: another pod's name"


class Waits:
    """A source that says what it is told to say."""

    waiting = WHY

    async def obtain(self) -> Credentials:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError


def a_teller(server: ApiServer, termination: Path) -> Teller:
    me = identity.make("test.local", Kind.AGENT, f"{POD}/{UID}")
    return Teller(Caller(server, server.users[POD]), me, termination=termination, steady_s=0.0)


def events_of(server: ApiServer) -> list[Object]:
    return server.all(events.path(NAMESPACE))


async def test_a_reason_that_lasts_is_an_event_once_and_the_termination_message(
    tmp_path: Path,
) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    end.touch()
    source = Waits()
    task = asyncio.create_task(a_teller(server, end).follow(source))

    await until(lambda: bool(events_of(server)))
    assert WHY in end.read_text()
    source.waiting = ""
    await task

    (event,) = events_of(server)
    assert event["reason"] == telling.REASON
    assert WHY in str(event["message"])
    assert end.read_text() == ""


async def test_without_the_right_to_write_events_the_rest_is_told(tmp_path: Path) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    server.allows = lambda *_: False
    end.touch()

    await a_teller(server, end).tell(WHY)

    assert WHY in end.read_text()
    assert not events_of(server)


async def test_outside_of_a_pod_no_file_is_made(tmp_path: Path) -> None:
    server, end = an_installation(), tmp_path / "termination-log"

    await a_teller(server, end).tell(WHY)

    assert not end.exists()
    assert len(events_of(server)) == 1
