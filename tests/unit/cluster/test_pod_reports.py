"""A pod that is not ready reports the reason in an Event and in its termination message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.cluster import pod_events, pod_reports
from midstreamer.cluster.api import Object
from midstreamer.cluster.pod_reports import (
    INCOMPLETE,
    NOT_READY,
    RECOVERED,
    WAITING,
    WELL,
    Standing,
    Teller,
)
from tests.support.api_server import ApiServer, Caller, until
from tests.support.operator_builders import NAMESPACE, UID, an_installation

POD = f"{NAMESPACE}/agent-0"
WHY = "waiting for a certificate: signing request mid-agent-0-x was denied: another pod's name"


class Process:
    """A process whose state the test sets."""

    def __init__(self, stands: Standing | None = None) -> None:
        self.stands = stands

    def look(self) -> Standing | None:
        return self.stands


def a_teller(server: ApiServer, termination: Path, *, steady_s: float = 0.0) -> Teller:
    return Teller(
        Caller(server, server.users[POD]),
        namespace=NAMESPACE,
        pod="agent-0",
        uid=UID,
        termination=termination,
        steady_s=steady_s,
    )


@asynccontextmanager
async def followed(server: ApiServer, process: Process, end: Path) -> AsyncIterator[None]:
    async with pod_reports.told(a_teller(server, end), process.look):
        yield


def events_of(server: ApiServer) -> list[Object]:
    return server.all(pod_events.path(NAMESPACE))


def reported_events(server: ApiServer) -> list[tuple[object, object]]:
    found = sorted(events_of(server), key=lambda each: each["reason"] == RECOVERED)
    return [(each["reason"], each["type"]) for each in found]


async def test_a_reason_that_lasts_is_an_event_once_and_the_termination_message(
    tmp_path: Path,
) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    end.touch()
    process = Process(Standing(WAITING, WHY))
    async with followed(server, process, end):
        await until(lambda: bool(events_of(server)))
        assert end.read_text() == WHY
        await asyncio.sleep(3 * pod_reports.LOOK_S)

    (event,) = events_of(server)
    assert (event["reason"], event["message"], event["type"]) == (WAITING, WHY, "Warning")


async def test_what_is_over_is_taken_back_by_an_event_and_in_the_termination_message(
    tmp_path: Path,
) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    end.touch()
    process = Process(Standing(NOT_READY, "store: PostgreSQL refused the login"))
    async with followed(server, process, end):
        await until(lambda: bool(events_of(server)))
        process.stands = WELL
        await until(lambda: len(events_of(server)) == 2)

    assert reported_events(server) == [(NOT_READY, "Warning"), (RECOVERED, "Normal")]
    assert end.read_text() == ""


async def test_a_ready_process_tells_what_it_lacks_and_would_not_end_with_it(
    tmp_path: Path,
) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    end.touch()
    async with followed(server, Process(Standing(INCOMPLETE, "store: away")), end):
        await until(lambda: bool(events_of(server)))

    assert reported_events(server) == [(INCOMPLETE, "Warning")]
    assert end.read_text() == ""


async def test_a_process_that_is_well_or_leaves_tells_nothing(tmp_path: Path) -> None:
    server = an_installation()
    process = Process(WELL)
    async with followed(server, process, tmp_path / "none"):
        await asyncio.sleep(2 * pod_reports.LOOK_S)
        process.stands = None
        await asyncio.sleep(2 * pod_reports.LOOK_S)

    assert events_of(server) == []


async def test_what_does_not_last_is_not_told(tmp_path: Path) -> None:
    server, shown = an_installation(), iter(range(100))

    def look() -> Standing:
        return Standing(NOT_READY, f"{next(shown)} of its own shards are not loaded yet")

    async with pod_reports.told(a_teller(server, tmp_path / "none", steady_s=0.6), look):
        await asyncio.sleep(4 * pod_reports.LOOK_S)

    assert events_of(server) == []


async def test_a_process_that_goes_to_and_fro_writes_ever_fewer_events(tmp_path: Path) -> None:
    server, looks = an_installation(), iter(range(10_000))

    def look() -> Standing:
        return WELL if next(looks) % 2 else Standing(NOT_READY, "x")

    async with pod_reports.told(a_teller(server, tmp_path / "none"), look):
        await until(lambda: len(events_of(server)) >= 3)
        await asyncio.sleep(4.0)

    assert 2 <= [reason for reason, _ in reported_events(server)].count(NOT_READY) <= 3


async def test_without_the_right_to_write_events_the_rest_is_told(tmp_path: Path) -> None:
    server, end = an_installation(), tmp_path / "termination-log"
    server.allows = lambda *_: False
    end.touch()

    await a_teller(server, end).tell(Standing(WAITING, WHY))

    assert WHY in end.read_text()
    assert not events_of(server)


async def test_outside_of_a_pod_no_file_is_made(tmp_path: Path) -> None:
    server, end = an_installation(), tmp_path / "termination-log"

    await a_teller(server, end).tell(Standing(WAITING, WHY))

    assert not end.exists()
    assert len(events_of(server)) == 1
