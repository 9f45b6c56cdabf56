"""Bad input to a running fleet: a clear error, nothing stored in part, and the service goes on.

Each case has an attempt and the words that its error must contain. The test counts the rows in
PostgreSQL before and after the attempt, and then makes a good request, which must work.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from midstreamer.cli import child_processes, local_fleet, peer_credentials
from midstreamer.client.api import AsyncClient
from midstreamer.client.request_retries import Policy
from midstreamer.domain.decision import Reason
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Column, Tick, Window
from midstreamer.protocol import frames
from midstreamer.runtime import config
from midstreamer.runtime.peer import dial
from midstreamer.transport.framed_link import FramedLink
from tests.support.processes import (
    HOUR,
    Ended,
    Processes,
    World,
    a_fleet,
    command,
    readiness,
    until,
)

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

GOOD = World("good", history=60, live=0)
SERIES, OTHER = "good/00", "good/01"
STORED, GAP = 60, 200
"""`STORED`: number of points in each series at the start. `GAP`: the hour of ticks to be refused.

The hours count from the epoch. Only requests that must be refused contain ticks of `SERIES` or
`OTHER` at the hour `GAP`. So such a tick is never stored.
"""
BIG_BYTES = 100_000_000
ASK_S, FULL_S = 5.0, 8.0
MANY = 40_000
"""Number of points in an append that does not fit on the disk of `a_full_disk`."""


@dataclass
class Place:
    """The fleet, its good data, and a folder for files."""

    processes: Processes
    folder: Path
    next_step: int = STORED + 1
    values: list[float] = field(
        default_factory=lambda: next(
            one.values_array().tolist() for one in GOOD.columns() if one.series == SERIES
        )
    )
    """Every stored value of `SERIES`."""

    @property
    def fleet(self) -> local_fleet.LocalFleet:
        return self.processes.fleet

    def tick(self, step: int, *, value: float = 100.0, series: str = SERIES) -> Column:
        """Return a column of one tick, built from bytes so that nothing checks it on the client."""
        times, values = np.array([step * HOUR], "<i8"), np.array([value], "<f8")
        return Column(series, times.tobytes(), values.tobytes())

    async def ask(self, request: frames.Request) -> frames.Answer:
        """Send a request to the coordinator without the SDK's own checks and retries."""
        carrier = self.fleet.client_carrier()
        peer = await dial(carrier, self.fleet.coordinator, expect=Kind.COORDINATOR)
        try:
            return await peer.ask(request, budget_s=ASK_S)
        finally:
            await peer.close()

    async def append(self, *columns: Column) -> frames.Answer:
        return await self.ask(frames.Append(columns=columns))

    async def match(self, asked: Window, **changes: object) -> frames.Answer:
        specification = msgspec.structs.replace(GOOD.specification, **changes)
        return await self.ask(frames.Match(specification=specification, windows=(asked,)))

    async def link(self) -> FramedLink:
        """Open an authenticated link whose stream the test can write to."""
        carrier = self.fleet.client_carrier()
        link = await carrier.dial(self.fleet.coordinator, expect=Kind.COORDINATOR)
        assert isinstance(link, FramedLink)
        return link

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    async def command(self, *words: str, **environment: str) -> Ended:
        return await command("--config", str(self.fleet.client_config), *words, **environment)

    async def service(self, verb: str, *sets: str) -> Ended:
        """Start one more process of the fleet, which should fail and end."""
        settings = ("telemetry.listen=127.0.0.1:0", *sets)
        words = [word for each in settings for word in ("--set", each)]
        return await self.command(verb, *words)

    async def good_request(self) -> None:
        """Append one tick and make one decision; check that each is stored once."""
        before = await self.processes.counts()
        client, step = self.processes.client, self.next_step
        self.next_step += 1
        self.values.append(100.0 + step % 7)
        await client.append([Tick(SERIES, step * HOUR, self.values[-1])])
        window = np.array(self.values[-16:])
        decision = await client.match(SERIES, step * HOUR, window, GOOD.specification)
        assert decision.settles
        after = await self.processes.counts()
        assert after["points"] == before["points"] + 1
        assert after["decisions"] == before["decisions"] + 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("bad-input")
    async with a_fleet(folder, agents=2) as processes:
        await processes.client.append(GOOD.columns())
        yield Place(processes, folder)


async def error_of(doing: Awaitable[object]) -> str:
    """Return the error that an attempt raises, as the text that users see."""
    try:
        ended = await doing
    except MidstreamerError as error:
        return f"error[{error.code}]: {error.message}"
    assert isinstance(ended, Ended), f"no error: {ended}"
    assert ended.code in {1, 2}, ended
    assert "Traceback" not in ended.error + ended.output
    return ended.error


# --- tests of bad frames from clients -------------------------------------------------------------


def a_window(length: int = 16, *, series: str = SERIES, step: int = STORED) -> Window:
    return Window(series, step * HOUR, np.cos(np.arange(float(length))).tobytes())


def a_broken_window() -> Window:
    values = np.arange(16.0)
    values[3] = np.nan
    return Window(SERIES, STORED * HOUR, values.tobytes())


async def a_large_frame(place: Place) -> None:
    link = await place.link()
    link._wire.write(0, struct.pack(">I", BIG_BYTES) + bytes(1_000_000))
    await link.receive()


async def random_bytes_in_a_stream(place: Place) -> None:
    link = await place.link()
    noise = random.Random(1).randbytes(4096)
    link._wire.write(0, struct.pack(">I", len(noise)) + noise)
    await link.receive()


Attempt = Callable[[Place], Awaitable[object]]

SENT: dict[str, tuple[Attempt, tuple[str, ...]]] = {
    "a price that is no number, by the client": (
        lambda place: place.processes.client.append([Tick(SERIES, GAP * HOUR, float("nan"))]),
        ("error[bad_input]", SERIES, str(GAP * HOUR), "nan", "not a finite number"),
    ),
    "a price that is no number, on the wire": (
        lambda place: place.append(
            place.tick(GAP, series=OTHER), place.tick(GAP, value=float("nan"))
        ),
        ("error[bad_input]", SERIES, str(GAP * HOUR), "nan", "not a finite number"),
    ),
    "an infinite price": (
        lambda place: place.append(place.tick(GAP, value=float("inf"))),
        ("error[bad_input]", SERIES, "inf", "not a finite number"),
    ),
    "the same tick with another value": (
        lambda place: place.append(place.tick(GAP, series=OTHER), place.tick(1, value=-5.0)),
        ("error[conflict]", SERIES, str(HOUR), "-5.0 was sent", "is stored"),
    ),
    "a tick older than the last": (
        lambda place: place.append(
            place.tick(GAP, series=OTHER),
            Column(SERIES, np.array([HOUR // 2], "<i8").tobytes(), bytes(8)),
        ),
        ("error[stale_tick]", SERIES, str(HOUR // 2), "no tick is stored", "the last tick is at"),
    ),
    "ticks that go back in time": (
        lambda place: place.append(
            Column(SERIES, np.array([GAP * HOUR, HOUR], "<i8").tobytes(), bytes(16))
        ),
        ("error[stale_tick]", SERIES, "not later than the tick before it"),
    ),
    "times and values of different lengths": (
        lambda place: place.append(Column(SERIES, bytes(16), bytes(8))),
        ("error[bad_input]", SERIES, "16 B of times", "8 B of values"),
    ),
    "a name that is none": (
        lambda place: place.append(place.tick(GAP, series="good/a b")),
        ("error[bad_input]", "'good/a b'", "use <universe>/<name>"),
    ),
    "an unknown series": (
        lambda place: place.match(a_window(series="good/ZZ")),
        ("error[unknown_series]", "good/ZZ", "append its ticks first"),
    ),
    "an unknown universe": (
        lambda place: place.match(a_window(series="bad/00"), universe="bad"),
        ("error[unknown_series]", "'bad'", "stored: good"),
    ),
    "a window longer than the history": (
        lambda place: place.match(a_window(500), window=500),
        ("error[bad_input]", "window of 500 points", "longer than every series", "'good'"),
    ),
    "a window of another length than it says": (
        lambda place: place.match(a_window(15)),
        ("error[bad_input]", "15 values", "specification.window is 16"),
    ),
    "a window with a hole": (
        lambda place: place.match(a_broken_window()),
        ("error[bad_input]", SERIES, "value 3 is nan"),
    ),
    "a specification out of bounds": (
        lambda place: place.match(a_window(), horizon=0),
        ("error[bad_input]", "specification.horizon = 0"),
    ),
    "a frame of 100 MB": (
        a_large_frame,
        ("error[link_closed]", "by the peer", "100,000,000 B", "frame_bytes_max=4,194,304"),
    ),
    "random bytes in a stream": (
        random_bytes_in_a_stream,
        ("error[link_closed]", "by the peer", "4096 B is not a valid frame"),
    ),
}

# --- tests of bad input from users ----------------------------------------------------------------

TITLE = "time,series,value\n"
HEAD = f"{TITLE}2020-01-01,X,1\n"

TYPED: dict[str, tuple[Attempt, tuple[str, ...]]] = {
    "a broken line in a file": (
        lambda place: place.command(
            "replay", place.file("broken.csv", HEAD + "2020-01-02,X,1,7\n")
        ),
        ("error[bad_input]", "broken.csv:3", "4 fields, expected 3"),
    ),
    "a price that is no number, in a file": (
        lambda place: place.command("replay", place.file("word.csv", HEAD + "2020-01-02,X,1o\n")),
        ("error[bad_input]", "word.csv:3", "default/X", "'1o', not a number"),
    ),
    "a gap in a file": (
        lambda place: place.command("replay", place.file("gap.csv", HEAD + "2020-01-02,X,\n")),
        (
            "error[bad_input]",
            "gap.csv:3",
            "default/X is empty",
            "leave the line out when there is no value",
        ),
    ),
    "a file that contradicts the store": (
        lambda place: place.command(
            "replay",
            place.file(
                "other.csv", f"time,series,value\n{HOUR},{SERIES},-5\n{2 * HOUR},{SERIES},1\n"
            ),
            "--window=16",
        ),
        ("error[conflict]", SERIES, "-5.0 was sent", "is stored"),
    ),
    "a window longer than a file": (
        lambda place: place.command("match", place.file("short.csv", HEAD), "--window=16"),
        ("error[bad_input]", "default/X has 1 ticks", "16 of a window"),
    ),
    "a wrong key in the configuration file": (
        lambda place: command(
            "--config", place.file("wrong.toml", "[coordinator]\nlisten_on = 1\n"), "coordinator"
        ),
        ("error[config]", "wrong.toml [coordinator]", "'listen_on'", "did you mean listen"),
    ),
    "a wrong key in the environment": (
        lambda place: place.command("sync", MIDSTREAMER_SYNC__LEASES="3"),
        ("error[config]", "MIDSTREAMER_SYNC__LEASES", "lease_s"),
    ),
    "a wrong key on the command line": (
        lambda place: place.service("agent", "thraeds=2"),
        ("error[config]", "'thraeds'", "threads"),
    ),
    "a value out of bounds": (
        lambda place: place.service("agent", "threads=-3"),
        ("error[config]", "agent.threads", "-3", "greater than or equal to"),
    ),
    "a port in use, of a coordinator": (
        lambda place: place.service("coordinator", f"listen={place.fleet.coordinator}"),
        ("error[config]", "cannot listen on", "Address already in use"),
    ),
    "a port in use, of the probes": (
        lambda place: place.command(
            "agent", "--set", f"telemetry.listen={place.processes.part('sync').health}"
        ),
        ("error[config]", "telemetry.listen", "choose another port"),
    ),
    "a DSN that is none": (
        lambda place: place.service("sync", "dsn=mysql://somewhere"),
        ("error[config]", "sync.dsn", "mysql://somewhere", "postgresql://"),
    ),
}


@pytest.mark.parametrize("case", [*SENT, *TYPED])
async def test_it_ends_in_a_clear_error_and_changes_nothing(case: str, place: Place) -> None:
    attempt, words = (SENT | TYPED)[case]
    with place.processes.explained():
        before = await place.processes.counts()
        error = await error_of(attempt(place))
        assert [word for word in words if word not in error] == [], error
        assert await place.processes.counts() == before
        await place.good_request()


# --- tests of bytes from unknown senders ----------------------------------------------------------


def throw_noise(address: str, *, datagrams: int = 400) -> None:
    """Send random datagrams of every size; every second one begins like a first QUIC packet."""
    dice = random.Random(address)
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thrower:
        for number in range(datagrams):
            data = bytearray(dice.randbytes(dice.randrange(1, 1400)))
            if number % 2:  # a long header of QUIC version 1
                data[:5] = b"\xc3\x00\x00\x00\x01"
            thrower.sendto(data, (host, int(port)))


async def test_random_bytes_on_the_ports_change_nothing(place: Place) -> None:
    sync = place.processes.part("sync")
    before = await place.processes.counts()
    with place.processes.explained():
        throw_noise(place.fleet.coordinator)
        throw_noise(sync.environment["MIDSTREAMER_SYNC__LISTEN"])
        assert await place.processes.counts() == before
        await place.good_request()
        await place.processes.ready()
        assert [process.restarts for process in place.fleet.children] == [0] * len(
            place.fleet.children
        )


async def test_random_bytes_at_the_probes_are_a_bad_request(place: Place) -> None:
    host, _, port = place.processes.part("coordinator").health.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(random.Random(2).randbytes(512).replace(b"\n", b"") + b"\r\n\r\n")
    assert b"400 Bad Request" in await reader.read()
    writer.close()
    await place.good_request()


# --- gaps ---------------------------------------------------------------------------------------


async def test_a_window_that_ends_in_a_gap_is_answered_with_silence_and_why(place: Place) -> None:
    """A window that ends at a time without a tick gets an abstention, which is never settled."""
    client, points = place.processes.client, place.next_step
    await client.append([Tick(SERIES, (points + 1) * HOUR, 101.0)])
    place.next_step += 2
    place.values.append(101.0)
    decision = await client.match(
        SERIES, points * HOUR, np.sin(np.arange(16.0)), GOOD.specification, record=False
    )
    assert (decision.reason, decision.settles) == (Reason.STALE_DATA, False)


# --- tests with a full disk, or without the database ----------------------------------------------


@asynccontextmanager
async def a_full_disk(place: Place) -> AsyncIterator[None]:
    """Let large inserts fail as on a full disk.

    The table of points moves to a tiny volume. If the test cannot mount a volume, a trigger raises
    PostgreSQL's error for a full disk instead.
    """
    small = place.fleet.server.home / "small"
    mounted = await asyncio.to_thread(_mount, small, place.fleet.server.home)
    if mounted:
        await place.processes.sql(f"CREATE TABLESPACE small LOCATION '{small}'")
        await place.processes.sql("ALTER TABLE points SET TABLESPACE small")
    else:
        await place.processes.sql(REFUSE)
    try:
        yield
    finally:
        if mounted:
            await place.processes.sql("ALTER TABLE points SET TABLESPACE pg_default")
            await place.processes.sql("DROP TABLESPACE small")
            await asyncio.to_thread(_unmount, small)
        else:
            await place.processes.sql("DROP FUNCTION refuse CASCADE")


REFUSE = """
DO $$ BEGIN
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF (SELECT count(*) FROM come) > 1000 THEN
            RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''53100''; END IF;
         RETURN NULL; END';
    CREATE TRIGGER refuse AFTER INSERT ON points REFERENCING NEW TABLE AS come
        FOR EACH STATEMENT EXECUTE FUNCTION refuse();
END $$
"""


def _mount(folder: Path, like: Path) -> bool:
    if os.geteuid() != 0:
        return False
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,mode=0700"]
    done = subprocess.run(["mount", *options, "tmpfs", folder], capture_output=True)
    if done.returncode == 0:
        shutil.chown(folder, like.stat().st_uid, like.stat().st_gid)
    return done.returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


async def test_a_full_disk_is_told_and_all_goes_on_once_there_is_room(place: Place) -> None:
    steps = np.arange(1, MANY + 1)
    many = Column("many/00", (steps * HOUR).astype("<i8").tobytes(), bytes(8 * MANY))
    carrier, addresses = place.fleet.client_carrier(), [place.fleet.coordinator]
    hurried = AsyncClient(carrier, addresses, deadline_s=FULL_S, policy=Policy(attempt_s=ASK_S))
    async with hurried, a_full_disk(place):
        before = await place.processes.counts()
        error = await error_of(hurried.append([many]))
        words = ("error[store]", "its disk is full", "53100", "free space on the volume")
        assert [word for word in words if word not in error] == [], error
        assert await place.processes.counts() == before
        window, last = np.array(place.values[-16:]), (place.next_step - 1) * HOUR
        # While the disk is full, requests that only read are still answered.
        await place.processes.client.match(SERIES, last, window, GOOD.specification, record=False)
    # If the failed append did store some of its points, the second append counts these points as
    # repeated.
    receipt = await place.processes.client.append([many])
    assert receipt.stored + receipt.repeated == MANY
    await place.good_request()


@asynccontextmanager
async def another_sync(place: Place, dsn: str) -> AsyncIterator[child_processes.Child]:
    """A second sync process, which uses another database."""
    port, health = local_fleet.free_ports(2)
    environment = {
        **place.processes.part("sync").environment,
        "MIDSTREAMER_SYNC__ID": "s2",
        "MIDSTREAMER_SYNC__DSN": dsn,
        "MIDSTREAMER_SYNC__LISTEN": f"127.0.0.1:{port}",
        "MIDSTREAMER_SYNC__TELEMETRY__LISTEN": f"127.0.0.1:{health}",
    }
    certs = place.fleet.state.certs
    peer_credentials.prepare(certs, [peer_credentials.named("sync/s2", local_fleet.TRUST_DOMAIN)])
    log = place.folder / "s2.log"
    sync = child_processes.Child("s2", "sync", environment, f"127.0.0.1:{health}", log, 0, print)
    await sync.start()
    try:
        yield sync
    finally:
        await sync.stop(ASK_S)


async def survey(place: Place, sync: child_processes.Child) -> frames.Answer:
    """Send a Survey to a sync process with the certificate of a coordinator."""
    security = config.SecuritySettings(directory=place.fleet.state.certs)
    me = peer_credentials.named(f"coordinator/{local_fleet.COORDINATOR}", local_fleet.TRUST_DOMAIN)
    carrier = peer_credentials.carrier(me, security, config.LimitSettings())
    peer = await dial(carrier, sync.environment["MIDSTREAMER_SYNC__LISTEN"], expect=Kind.SYNC)
    try:
        return await peer.ask(frames.Survey(), budget_s=ASK_S)
    finally:
        await peer.close()


ABSENT: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "the server": (
        lambda dsn: dsn.replace("/socket", "/nowhere"),
        ("cannot be made", "No such file", "start PostgreSQL, or correct sync.dsn"),
    ),
    "the database": (
        lambda dsn: dsn.replace("/midstreamer?", "/absent?"),
        ("there is no such database", "3D000", 'database "absent" does not exist', "create it"),
    ),
}


@pytest.mark.parametrize("what", ABSENT)
async def test_what_is_absent_is_told_by_a_sync_that_stays(what: str, place: Place) -> None:
    change, words = ABSENT[what]
    dsn = place.fleet.server.dsn
    assert change(dsn) != dsn
    async with another_sync(place, change(dsn)) as sync:

        async def tells() -> bool:
            answer = await readiness(sync.health)
            return all(word in answer for word in words)

        await until(tells, f"the probe to name {what} at {sync.health}; log: {sync.log}")
        said = await error_of(survey(place, sync))
        assert "error[store]" in said
        assert "the store is not open yet" in said or words[0] in said
        if what == "the database":
            await place.processes.sql("CREATE DATABASE absent TEMPLATE template0")
            await sync.ready()
            assert isinstance(await survey(place, sync), frames.Surveyed)
