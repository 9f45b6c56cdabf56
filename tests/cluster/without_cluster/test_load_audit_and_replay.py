"""Tests of load, audit and replay as processes, against a fleet of local processes."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from midstreamer.cli import peer_credentials
from midstreamer.cli.local_fleet import TRUST_DOMAIN, LocalFleet
from midstreamer.security import files
from tests.cluster import certificates, commands_here, load_judgement
from tests.cluster.load_judgement import Event, Kind
from tests.cluster.outside_trials import Trial
from tests.cluster.releases import Release
from tests.support import processes
from tests.support.client_builders import a_csv
from tests.support.processes import Processes, World

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]

RATES = ("--matches-per-s", "20", "--appends-per-s", "8")
"""Arguments for a load with lower rates than by default: other tests run at the same time."""
WITHIN_S = 90.0
SERVER = "postgres.nowhere.invalid"
LINES = 3
"""How many lines of the load a test awaits before a disturbance, and again after it.

The load prints one line a second.
"""
TOP = Path(__file__).parents[3]


class Ended(NamedTuple):
    """The exit code and the output of a command that a test has run."""

    code: int
    output: str
    error: str


async def started(module: str, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.cluster.{module}", *words,
        cwd=TOP,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def done(module: str, *words: str) -> Ended:
    process = await started(module, *words)
    try:
        async with asyncio.timeout(WITHIN_S):
            output, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), error.decode())


def client_words(running: Processes) -> list[str]:
    fleet = running.fleet
    return ["--addresses", fleet.coordinator, "--certs", str(fleet.state.certs)]


@dataclass(frozen=True)
class LocalRelease:
    """A local fleet that takes the place of a `Release`, with this machine as its only node."""

    fleet: LocalFleet
    name: str = "here"

    @property
    def kubernetes(self) -> LocalRelease:
        return self

    def get(self, what: str) -> dict[str, Any]:
        host, _, port = self.fleet.coordinator.rpartition(":")
        address = {"type": "InternalIP", "address": host}
        objects: dict[str, dict[str, Any]] = {
            "service/here": {"spec": {"ports": [{"nodePort": int(port)}]}},
            "nodes": {"items": [{"status": {"addresses": [address]}}]},
        }
        return objects[what]

    def client(self, directory: Path) -> None:
        authority = files.open_authority(self.fleet.state.certs)
        files.issue(authority, peer_credentials.named("client/local", TRUST_DOMAIN), directory)


@asynccontextmanager
async def driven(trial: Trial) -> AsyncIterator[None]:
    """Start a load, run the block as soon as the load is ready, then stop the load."""
    load = trial.load(*RATES)
    await asyncio.to_thread(load.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(load.__exit__, None, None, None)


async def seconds(trial: Trial, count: int) -> None:
    """Wait until the load has reported the figures of `count` more seconds."""
    before = len(_told(trial))

    async def are_told() -> bool:
        return len(_told(trial)) >= before + count

    await processes.until(are_told, f"{count} seconds of the load")


def _told(trial: Trial) -> list[str]:
    return (trial.folder / "load.seconds.jsonl").read_text().splitlines()


@asynccontextmanager
async def behind_tls(dsn: str, folder: Path) -> AsyncIterator[str]:
    """Serve a database with TLS on a local port; return the DSN, whose host is `SERVER`."""
    authority = certificates.authority(folder, "ca")
    certificates.leaf(folder, authority, "server", "server", dns_names=(SERVER,))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    socket = parse_qs(urlsplit(dsn).query)["host"][0]

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # the client's SSLRequest packet
        writer.write(b"S")
        await writer.start_tls(tls)
        far_reader, far_writer = await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.5432")
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield (
            f"postgresql://midstreamer@{SERVER}:{port}/midstreamer"
            f"?sslmode=verify-full&sslrootcert={folder}/ca.crt"
        )


async def test_a_killed_agent_fails_no_request_and_what_is_lost_from_the_store_is_found(
    tmp_path: Path,
) -> None:
    async with processes.a_fleet(tmp_path, agents=2) as running:
        trial = Trial(cast("Release", LocalRelease(running.fleet)), tmp_path)
        async with driven(trial):
            await seconds(trial, LINES)
            from_s = time.monotonic()
            await running.back("agent-1", after=running.kill("agent-1"))
            await seconds(trial, LINES)
            killed = Event("kill agent-1", Kind.CRASH, from_s, time.monotonic())
        trial.events_file.write_text(load_judgement.line(killed))
        words = ("--load", str(trial.load_file), "--dsn", running.fleet.server.dsn)

        table = await asyncio.to_thread(trial.report)
        intact = await done("disturbance_report", *words, "--faults")
        password = tmp_path / "password"
        password.write_text("not asked for here\n")
        address_words = ("--password-file", str(password), "--address", "127.0.0.1")
        async with behind_tls(running.fleet.server.dsn, tmp_path) as dsn:
            load = ("--load", str(trial.load_file))
            verified = await done("disturbance_report", *load, "--dsn", dsn, *address_words)
            wrong_name = await done(
                "disturbance_report",
                *load,
                "--dsn",
                dsn.replace(SERVER, "else.invalid"),
                *address_words,
            )
        await running.sql(
            "DELETE FROM points WHERE (series_id, index)"
            " IN (SELECT series_id, index FROM points LIMIT 1)"
        )
        one_less = await done("disturbance_report", *words)

    assert "kill agent-1" in table
    assert intact.code == 0, intact
    assert "each is stored exactly once" in intact.output
    assert verified.code == 0, verified
    assert "each is stored exactly once" in verified.output
    assert wrong_name.code == 2, wrong_name
    assert "certificate is not valid for 'else.invalid'" in wrong_name.error
    assert one_less.code == 1, one_less
    assert one_less.output.count("does not hold: lost: tick ") == 1
    trial.load_file.write_text("")
    with pytest.raises(commands_here.KitError, match="no request was made"):
        trial.report()


async def test_a_load_that_does_not_begin_is_told_with_its_complaint(tmp_path: Path) -> None:
    async with processes.a_fleet(tmp_path, agents=1) as running:
        trial = Trial(cast("Release", LocalRelease(running.fleet)), tmp_path)
        running.fleet.coordinator = "127.0.0.1:1"
        with pytest.raises(commands_here.KitError, match="the load did not start: ") as raised:
            await asyncio.to_thread(trial.load("--deadline-s", "1").__enter__)

    assert "load: error[deadline]: append had no answer" in str(raised.value)
    assert "Traceback" not in str(raised.value)


async def test_a_replay_to_two_agents_equals_one_to_a_fleet_of_its_own_to_the_bit(
    tmp_path: Path,
) -> None:
    world = World("walk", history=120, live=120, series=2)
    rows = [
        f"{moment},{one.series},{value!r}"
        for one in world.columns()
        for moment, value in zip(
            one.times_array().tolist(), one.values_array().tolist(), strict=True
        )
    ]
    data = ["--data", str(a_csv(tmp_path / "walk.csv", *rows))]
    there, here = tmp_path / "there.jsonl", tmp_path / "here.jsonl"
    async with processes.a_fleet(tmp_path, agents=2) as running:
        words = [*client_words(running), *data]
        first = await done("replay_comparison", "fleet", *words, "--write", str(there))
        again = await done(
            "replay_comparison", "fleet", *words, "--write", str(tmp_path / "again.jsonl")
        )
    alone = await done("replay_comparison", "local", *data, "--write", str(here))

    compared = await done("replay_comparison", "compare", str(here), str(there))

    assert [first.code, again.code, alone.code] == [0, 0, 0], (first, again, alone)
    assert (tmp_path / "again.jsonl").read_bytes() == there.read_bytes()
    assert compared.code == 0, compared
    assert "equal to the bit" in compared.output
    assert int(compared.output.split()[0]) > 100
