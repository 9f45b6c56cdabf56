"""Runs `midstreamer postgres` as a process of a test, with its own certificate authority."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from midstreamer.cli.local_fleet import free_ports
from midstreamer.postgres import service
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.security import files, tls
from midstreamer.store.embedded_postgres import EmbeddedServer
from tests.support.identity_builders import DOMAIN
from tests.support.processes import readiness, until

WORD = "a-password-of-the-test-0123456789"
NAMES = ("localhost", "db.test")
PUBLIC_PYTHON = "/usr/bin/python3"
"""A Python for any user; the test's own Python may be in a folder that only root can read."""


@dataclass
class Database:
    """One `midstreamer postgres` process, with its files, ports and certificate authority."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    """A command, such as unshare, that starts `midstreamer postgres`.

    It stands before the words of `midstreamer postgres` in the command line, as in
    ``unshare --net python -m midstreamer postgres``. If it is empty, nothing stands before them.
    """
    uid: int = 0
    """Id of the user that owns the files and runs the process; 0 is the user of the test.

    `start` switches to this user. If ``before`` is given, the command in ``before`` must switch.
    """
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    health: str = ""

    def __post_init__(self) -> None:
        self.port, health = free_ports(2)
        self.health = f"127.0.0.1:{health}"
        self.certs.mkdir(exist_ok=True)
        if not files.authority_path(self.certs).exists():
            files.init_authority(self.certs, DOMAIN)
        self.set_password(WORD)

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        """Everything that the process and its PostgreSQL server have logged."""
        return (self.folder / "postgres.log").read_text()

    @property
    def dsn(self) -> str:
        return f"postgresql://midstreamer@localhost:{self.port}/midstreamer"

    @property
    def home(self) -> Path:
        """The directory that holds the data of PostgreSQL."""
        return EmbeddedServer(self.data).home

    def set_password(self, word: str) -> None:
        """Write a new password file and rename it over the old file, as Kubernetes does."""
        new = self.folder / "password.new"
        new.write_text(f"{word}\n")
        new.chmod(0o600)
        if self.uid:
            os.chown(new, self.uid, 0)
        new.replace(self.folder / "password")

    def start(self) -> None:
        """Start the process without waiting until it is ready."""
        given = {
            "listen": f"127.0.0.1:{self.port}",
            "names": ",".join(NAMES),
            "password_file": str(self.folder / "password"),
            "directory": str(self.data),
            "telemetry.listen": self.health,
            "telemetry.level": "debug",
            "security.key": "memory",
            "security.directory": str(self.certs),
            "security.trust_domain": DOMAIN,
            **self.settings,
        }
        is_other = self.uid and not self.before
        python, environ = sys.executable, {**os.environ}
        if self.uid:
            python = PUBLIC_PYTHON
            environ["PYTHONPATH"] = os.pathsep.join(
                one for one in sys.path if "/lib/python" not in one or "site-packages" in one
            )
        sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, python, "-m", "midstreamer", "postgres", *sets],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self.uid if is_other else None,
                group=0 if is_other else None,
                extra_groups=[] if is_other else None,
                env={**environ, "TMPDIR": str(self.folder), "HOME": str(self.folder)},
            )

    async def ready(self) -> None:
        """Wait until the readiness probe answers ok; if the process ends, fail and show its log."""

        async def well() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            return (await readiness(self.health)).startswith("ok")

        try:
            await until(well, "PostgreSQL to be ready")
        except AssertionError as error:
            error.add_note(f"{await readiness(self.health)}\n{self.log}")
            raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the process to end, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(20)

    def erase(self) -> None:
        """Stop the process; remove its data, unless they belong to another user (see ``uid``)."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
            self.process.kill()
            self.process.wait()
        if not self.uid:
            setup = service.set_up(PostgresSettings())
            # A thread of its own, because the thread of the test may already run an event loop.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, EmbeddedServer(self.data, setup=setup).erase()).result()

    def trust(self) -> ssl.SSLContext:
        """Return the TLS context with which sync connects: it trusts the authority in `certs`."""
        return tls.dialling(files.certificates_in(files.trust_path(self.certs)))

    @asynccontextmanager
    async def connected(self, **changes: Any) -> AsyncIterator[Any]:
        """A connection with the right password; ``changes`` overrides single arguments."""
        given = {"dsn": self.dsn, "password": WORD, "ssl": self.trust(), "timeout": 10, **changes}
        connection = await asyncpg.connect(**given)
        try:
            yield connection
        finally:
            connection.terminate()

    async def ask(self, query: str, **changes: Any) -> Any:
        """Return the single value that a query gives."""
        async with self.connected(**changes) as connection:
            return await connection.fetchval(query)


@contextmanager
def a_database(folder: Path, **given: Any) -> Iterator[Database]:
    """A started `midstreamer postgres` process, which `Database.erase` ends when the block ends."""
    database = Database(folder, **given)
    try:
        database.start()
        yield database
    finally:
        database.erase()
