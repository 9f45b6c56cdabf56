"""Runs `midstreamer postgres` as the database of a fleet, with metrics, TLS and a password."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from midstreamer.cli import child_processes
from midstreamer.cli.child_processes import Child
from midstreamer.cli.local_fleet import TRUST_DOMAIN, free_ports
from midstreamer.cli.state_folder import StateFolder
from midstreamer.postgres import service
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.runtime import config
from midstreamer.store.embedded_postgres import EmbeddedServer

ID = "p1"
WORD = "a-password-of-the-test-0123456789"
READY_S = 120.0
STOP_S = 30.0
POLL_S = 0.05


class PostgresProcess:
    """A `midstreamer postgres` process, with TLS and a password as in a cluster.

    The Helm chart runs the same command for the database that it installs for trying out the fleet.
    """

    def __init__(self, state: StateFolder, news: Callable[[str], None]) -> None:
        self._data = state.folder / "database"
        self._password = state.folder / "password"
        self._port, health = free_ports(2)
        self.health = f"127.0.0.1:{health}"
        self.child = Child(
            "postgres",
            "postgres",
            self._environment(state.certs),
            self.health,
            state.logs / "postgres.log",
            0,
            news,
        )

    @property
    def dsn(self) -> str:
        """The DSN with which sync connects; the host is a name in the database's certificate."""
        return f"postgresql://midstreamer@localhost:{self._port}/midstreamer"

    @property
    def settings_of_sync(self) -> dict[str, str]:
        """Settings of sync for this database, in addition to the setting `dsn`."""
        return {"PASSWORD_FILE": str(self._password), "DATABASE_TRUST": "fleet"}

    def _environment(self, certs: Path) -> dict[str, str]:
        given = {
            "ID": ID,
            "LISTEN": f"127.0.0.1:{self._port}",
            "PASSWORD_FILE": str(self._password),
            "DIRECTORY": str(self._data),
            "TELEMETRY__LISTEN": self.health,
            "SECURITY__KEY": "memory",
            "SECURITY__DIRECTORY": str(certs),
            "SECURITY__TRUST_DOMAIN": TRUST_DOMAIN,
        }
        return {f"{config.PREFIX}POSTGRES__{name}": value for name, value in given.items()}

    async def start(self) -> str:
        """Start the process and wait until it is ready; return the DSN.

        Raise AssertionError with the end of its log when it ends or is not ready within `READY_S`.
        """
        self._password.write_text(f"{WORD}\n", encoding="ascii")
        self._password.chmod(0o600)
        process = await self.child.start()
        try:
            async with asyncio.timeout(READY_S):
                while not await child_processes.complete(self.health):
                    if process.returncode is not None:
                        raise AssertionError(f"the database ended: {self.child.last_words()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            message = f"the database was not ready within {READY_S:g} s: {self.child.last_words()}"
            raise AssertionError(message) from None
        return self.dsn

    async def end(self, how: signal.Signals) -> None:
        """Simulate a fault: signal the process and wait for its end."""
        process = self.child.process
        assert process is not None
        process.send_signal(how)
        await process.wait()

    async def stop(self) -> None:
        """Stop the process."""
        await self.child.stop(STOP_S)

    async def erase(self) -> None:
        """Remove the files of the database.

        If root runs the test, these files are outside the folder of the test, so they are not
        removed with that folder.
        """
        await EmbeddedServer(self._data, setup=service.set_up(PostgresSettings())).erase()
