"""With ``security.key=memory`` the key is in no file, argument, environment variable or log.

Real processes run from the command line. The test changes one thing in them: each sends its new
keys to the test over a pipe, so that the test knows what to search for.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.cli import child_processes
from midstreamer.cli.local_fleet import free_ports
from midstreamer.client import certificates
from midstreamer.client.api import AsyncClient
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Tick
from midstreamer.security import files
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres_leftovers import processes_in
from midstreamer.transport.trust import AdmittedPeer, Trust
from tests.support.identity_builders import DOMAIN, stranger_key, who
from tests.support.processes import readiness, until

pytestmark = pytest.mark.integration

SECRET_BYTES = 32
WORD = "a-password-of-the-test-0123456789"
TELLING_KEYS = """
import os, sys
from cryptography.hazmat.primitives.asymmetric import ec
from midstreamer.cli import main
from midstreamer.security import requested_credentials

class Told:
    def __getattr__(self, name):
        return getattr(ec, name)

    def generate_private_key(self, curve):
        key = ec.generate_private_key(curve)
        os.write(int(sys.argv[1]), key.private_numbers().private_value.to_bytes(32, "big"))
        return key

requested_credentials.ec = Told()
sys.exit(main.execute(sys.argv[2:]))
"""


# --- the search for a key -------------------------------------------------------------------------


def forms(secret: bytes) -> dict[str, bytes]:
    """Return every form in which a process could write the private key, by name of the form."""
    number = int.from_bytes(secret, "big")
    written = {
        "raw": secret,
        "raw, little end first": secret[::-1],
        "hexadecimal": secret.hex().encode(),
        "decimal": str(number).encode(),
    }
    # Base64 encodes three bytes at a time. If the key is a part of longer data, its base64 text
    # therefore depends on the number of bytes before the key, modulo 3.
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret)
        written[f"base64 after {before}"] = text[4 if before else 0 : 40]
    return written


def found(secret: bytes, data: bytes) -> list[str]:
    """Return which `forms` of the private key ``secret`` occur in ``data``, by name."""
    joined = data.translate(None, b"\r\n")
    standard = joined.replace(b"-", b"+").replace(b"_", b"/")
    several = (data, joined.lower(), standard)
    return [name for name, form in forms(secret).items() if any(form in one for one in several)]


KEY = stranger_key()
NUMBER = KEY.private_numbers().private_value
WRITTEN = {
    "pkcs8": KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ),
    "sec1": KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ),
    "der": KEY.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ),
    "hexadecimal": f"key={NUMBER:064X}".encode(),
    "repr": repr(KEY.private_numbers().private_value).encode(),
    "url": base64.urlsafe_b64encode(NUMBER.to_bytes(SECRET_BYTES, "big")),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_key_that_is_written_down_is_found(form: str) -> None:
    secret = NUMBER.to_bytes(SECRET_BYTES, "big")
    assert found(secret, b"before " + WRITTEN[form] + b" after") != []


def of_process(pid: int, since_s: float) -> Iterator[tuple[str, bytes]]:
    """Yield a process's arguments, environment, open files and mapped files.

    ``since_s`` is a time before the process started. A mapped file is left out if it last changed
    before that time.
    """
    place = Path(f"/proc/{pid}")
    for name in ("cmdline", "environ"):
        yield name, (place / name).read_bytes()
    for handle in (place / "fd").iterdir():
        try:
            if stat.S_ISREG(handle.stat().st_mode):
                yield f"{handle} ({handle.readlink()})", handle.read_bytes()
        except FileNotFoundError:
            continue  # the process closed the file meanwhile
    for line in (place / "maps").read_text().splitlines():
        path = line.split(maxsplit=5)[5:]
        if path and path[0].startswith("/") and Path(path[0]).is_file():
            # A file older than the process cannot contain the key.
            if Path(path[0]).stat().st_mtime >= since_s:
                yield f"maps {path[0]}", Path(path[0]).read_bytes()
        elif path and ("(deleted)" in path[0] or "memfd:" in path[0]):
            with contextlib.suppress(PermissionError):  # some paths in /proc only root may read
                yield line, (place / "map_files" / line.split()[0]).read_bytes()


STORED = ("/pg_wal/", "/base/", "/global/", "/pg_xact/")
"""Folders of PostgreSQL's own data (60 MB), searched only for the password and not for the keys."""


def arguments_of(pid: int) -> list[tuple[str, bytes]]:
    """Return arguments and environment of a process; nothing if the process has ended."""
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{pid}")
        return [
            (f"{name} of {pid}", (place / name).read_bytes()) for name in ("cmdline", "environ")
        ]
    return []


def on_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()


# --- processes -----------------------------------------------------------------------------------


@dataclass
class Started:
    """A process that sends its keys to the test."""

    verb: str
    health: str
    process: subprocess.Popen[bytes]
    log: Path
    _pipe: int
    keys: list[bytes] = field(default_factory=list)

    def private_values(self) -> list[bytes]:
        """Return the private values that the process has made so far."""
        while True:
            try:
                self.keys.append(os.read(self._pipe, SECRET_BYTES))
            except BlockingIOError:
                return self.keys

    async def completed(self) -> None:
        """Wait until nothing that the process needs is missing."""

        async def complete() -> bool:
            assert self.process.poll() is None, f"{self.verb} ended"
            return await child_processes.complete(self.health)

        try:
            await until(complete, f"{self.verb} to be complete")
        except AssertionError as error:
            error.add_note(self.last_lines())
            raise

    def last_lines(self) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text().splitlines()[-20:])

    def stopped(self) -> int:
        """Stop the process with SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def end(self) -> None:
        """Stop the process and everything that it started."""
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stopped()
        self.process.kill()
        self.process.wait()
        os.close(self._pipe)


@dataclass
class Place:
    """A folder in which processes run and write."""

    folder: Path
    ends: AsyncExitStack
    sync: str
    coordinator: str

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    def start(self, verb: str, **settings: str) -> Started:
        """Start a process that keeps its key in memory and logs messages of every level."""
        (port,) = free_ports(1)
        given = {
            "telemetry.listen": f"127.0.0.1:{port}",
            "telemetry.level": "debug",
            "security.key": "memory",
            "security.directory": str(self.certs),
            "security.trust_domain": DOMAIN,
            **settings,
        }
        sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        log = self.folder / f"{verb}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", TELLING_KEYS, str(writing), verb, *sets],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder), "HOME": str(self.folder)},
            )
        os.close(writing)
        started = Started(verb, given["telemetry.listen"], process, log, reading)
        self.ends.callback(started.end)
        return started

    def database(self) -> tuple[Started, dict[str, str]]:
        """Start PostgreSQL with TLS; return it and sync's settings for it."""
        (port,) = free_ports(1)
        (self.folder / "password").write_text(WORD)
        server = EmbeddedServer(self.folder / "postgres")
        self.ends.push_async_callback(server.erase)
        password = str(self.folder / "password")
        started = self.start(
            "postgres", listen=f"127.0.0.1:{port}", password_file=password,
            directory=str(server.directory),
        )  # fmt: skip
        return started, {
            "dsn": f"postgresql://midstreamer@localhost:{port}/midstreamer?sslmode=verify-full",
            "password_file": password,
            "database_trust": "fleet",
        }

    def fleet(self, **of_sync: str) -> list[Started]:
        """Start sync, a coordinator and an agent."""
        store = EmbeddedServer(self.folder / "store")
        self.ends.push_async_callback(store.erase)
        of_sync = of_sync or {"directory": str(self.folder / "store")}
        return [
            self.start("sync", listen=self.sync, **of_sync),
            self.start(
                "coordinator", id="c1", listen=f"quic+wss://{self.coordinator}", sync=self.sync,
                spool_dir=str(self.folder / "spool"),
            ),
            self.start("agent", id="a1", sync=self.sync, threads="1"),
        ]  # fmt: skip


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    sync, coordinator = (f"127.0.0.1:{port}" for port in free_ports(2))
    certs = tmp_path / "certs"
    files.init_authority(certs, DOMAIN)
    files.write_allowlist(certs / "allowlist", ["coordinator/*", "agent/*", "sync/*", "client/*"])
    async with AsyncExitStack() as ends:
        yield Place(tmp_path, ends, sync, coordinator)


def a_client(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a client's certificate and key to a folder in which no test looks for keys."""
    folder = tmp_path_factory.mktemp("client")
    files.issue(files.open_authority(place.certs), who(Kind.CLIENT, "u1"), folder)
    return folder


async def shown_by(client: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Presented:
    """Return the certificates that a server presents in its TLS handshake."""
    seen: list[Presented] = []
    judge = Trust.judge

    def note(self: Trust, presented: Presented, role: Role, kinds: frozenset[Kind]) -> AdmittedPeer:
        seen.append(presented)
        return judge(self, presented, role, kinds)

    with monkeypatch.context() as patched:
        patched.setattr(Trust, "judge", note)
        link = await certificates.carrier(client).dial(address, expect=Kind.COORDINATOR)
        await link.close()
    return seen[0]


def public_of(secret: bytes) -> ec.EllipticCurvePublicKey:
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1()).public_key()


async def test_the_key_is_in_no_file_argument_variable_or_log(
    place: Place,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    since_s = time.time()
    fleet = place.fleet()
    for one in fleet:
        await one.completed()
    folder = a_client(place, tmp_path_factory)
    # WebSocket needs Python's TLS, which loads keys only from files. So the coordinator writes its
    # key to an anonymous file (memfd). This test checks that the memfd leaves no trace.
    async with AsyncClient.connect(f"wss://{place.coordinator}", directory=folder) as client:
        await client.append([Tick("walk/00", time_, 1.0) for time_ in range(1, 50)])
        members = {member.name for member in (await client.survey()).members}
    leaf = (await shown_by(folder, place.coordinator, monkeypatch)).leaf
    keys = {one.verb: one.private_values() for one in fleet}
    assert {"sync/sync-1", "coordinator/c1", "agent/a1"} <= members
    assert {verb: len(values) for verb, values in keys.items()} == {
        "sync": 1, "coordinator": 1, "agent": 1,
    }  # fmt: skip
    assert leaf is not None
    assert leaf.public_key() == public_of(keys["coordinator"][0])
    traces = [
        f"the key of {verb} is in {where}, {form}"
        for where, data in [
            *on_disk(place.folder),
            *(entry for one in fleet for entry in of_process(one.process.pid, since_s)),
        ]
        for verb, (secret,) in keys.items()
        for form in found(secret, data)
    ]
    assert traces == []
    assert [path.name for path in place.certs.iterdir() if path.is_dir()] == []
    for one in reversed(fleet):
        assert one.stopped() == 0


async def test_a_fleet_with_a_database_of_its_own_keeps_keys_and_password_to_itself(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    since_s = time.time()
    database, found_by = place.database()
    fleet = [database, *place.fleet(**found_by)]
    for one in fleet:
        await one.completed()
    folder = a_client(place, tmp_path_factory)
    async with AsyncClient.connect(place.coordinator, directory=folder) as client:
        await client.append([Tick("walk/00", time_, 1.0) for time_ in range(1, 50)])
    home = EmbeddedServer(place.folder / "postgres").home
    server = list(processes_in(home / "data"))
    secrets = {one.verb: one.private_values() for one in fleet}
    assert {verb: len(values) for verb, values in secrets.items()} == {
        "postgres": 1, "sync": 1, "coordinator": 1, "agent": 1,
    }  # fmt: skip
    traces = []
    for where, data in [
        *on_disk(place.folder),
        *on_disk(home),
        *(entry for one in fleet for entry in of_process(one.process.pid, since_s)),
        *(entry for pid in server for entry in arguments_of(pid)),
    ]:
        if not any(folder in where for folder in STORED):
            traces += [f"{verb} in {where}" for verb, (key,) in secrets.items() if found(key, data)]
        if WORD.encode() in data and not where.endswith("/password"):
            traces.append(f"password in {where}")
    assert traces == []
    for one in reversed(fleet):
        assert one.stopped() == 0


async def test_sync_goes_on_with_a_new_password_once_its_connections_are_lost(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database, found_by = place.database()
    fleet = place.fleet(**found_by)
    for one in (database, *fleet):
        await one.completed()
    folder = a_client(place, tmp_path_factory)
    async with AsyncClient.connect(place.coordinator, directory=folder) as client:
        await client.append([Tick("walk/00", 1, 1.0)])
        (place.folder / "password").write_text("another-password-of-the-test")

        async def is_taken() -> bool:
            return "password.changed" in database.log.read_text()

        await until(is_taken, "the new password to be taken over")
        home = EmbeddedServer(place.folder / "postgres").home
        os.kill(int((home / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        await client.append([Tick("walk/00", 2, 1.0)])
        assert (await client.survey()).members
    assert "another-password" not in "".join(one.log.read_text() for one in (database, *fleet))


async def test_a_process_says_what_its_first_certificate_waits_for_and_can_be_stopped(
    place: Place,
) -> None:
    files.authority_path(place.certs).rename(place.folder / "kept.pem")
    waiting = place.start("coordinator", id="c1", listen=place.coordinator, sync=place.sync)

    async def says() -> bool:
        answer = await readiness(waiting.health)
        return answer.startswith("waiting for a certificate: ") and "authority.pem" in answer

    await until(says, "the probe to name what is missing")
    assert waiting.stopped() == 0
    lines = waiting.log.read_text().splitlines()
    assert len([line for line in lines if "certificate.waiting" in line]) == 1
    assert not [line for line in lines if "Traceback" in line]


async def test_a_process_goes_on_once_the_issuer_is_there(place: Place) -> None:
    kept = files.authority_path(place.certs).rename(place.folder / "kept.pem")
    started = place.start("coordinator", id="c1", listen=place.coordinator, sync=place.sync)

    async def says(what: str) -> bool:
        return what in await readiness(started.health)

    await until(lambda: says("waiting for a certificate"), "the process to wait for a certificate")
    kept.rename(files.authority_path(place.certs))
    await until(lambda: says(f"sync at {place.sync}"), "the process to wait for sync instead")
