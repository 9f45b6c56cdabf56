"""Connections to PostgreSQL; the only module that uses asyncpg.

For each new connection the password is read again, and the server's certificate is verified with
the authorities that are trusted at that moment.  So a changed password or a renewed authority needs
no restart.  Open connections stay open.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from midstreamer.domain.errors import ConfigError
from midstreamer.store import dsn, postgres_errors

Connection = Any  # asyncpg ships no types of its own
Pool = Any


@dataclass(frozen=True)
class Way:
    """How to connect to a database."""

    dsn: str
    """A DSN that `dsn.checked` has accepted."""
    connect_s: float = 5.0
    """Seconds to wait for a connection."""
    command_s: float = 60.0
    """Seconds that one statement may take."""
    trust: Callable[[], ssl.SSLContext] | None = None
    """Function that returns the TLS context for the next connection.

    If set, every connection uses TLS with this context, whatever the DSN says.
    """
    password: Callable[[], str] | None = None
    """Function that returns the password for the next connection, in place of the one in the DSN.
    """

    def _given(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if self.trust is not None:
            given["ssl"] = self.trust()
        if self.password is not None:
            given["password"] = self.password()
        return given

    async def _connect(self, *arguments: Any, **given: Any) -> Connection:
        return await asyncpg.connect(*arguments, **(given | self._given()))

    async def connect(self, name: str, *, command_s: float | None = None) -> Connection:
        """Open one connection; ``name`` becomes its ``application_name`` in PostgreSQL.

        ``command_s`` replaces the limit on one statement, in seconds.
        """
        return await self._connect(
            self.dsn,
            timeout=self.connect_s,
            command_timeout=command_s or self.command_s,
            server_settings={"application_name": name},
        )

    async def pool(self, most: int) -> Pool:
        """Open a pool of at most ``most`` connections; the pool replaces lost ones by itself."""
        async with self._readable():
            return await asyncpg.create_pool(
                self.dsn,
                connect=self._connect,
                min_size=1,
                max_size=most,
                timeout=self.connect_s,
                command_timeout=self.command_s,
                reset=_as_it_is,
                server_settings={"application_name": "midstreamer", "jit": "off"},
            )

    @asynccontextmanager
    async def _readable(self) -> AsyncIterator[None]:
        """Raise ConfigError if asyncpg cannot parse a DSN that `dsn.checked` accepted.

        The error of asyncpg is dropped, because its text may quote the password.
        """
        try:
            yield
        except (asyncpg.InterfaceError, ssl.SSLError):
            raise
        except (ValueError, IndexError):
            raise ConfigError(
                f"sync.dsn = {dsn.shown(self.dsn)!r} cannot be parsed by asyncpg: write {dsn.FORM}"
            ) from None


@asynccontextmanager
async def door() -> AsyncIterator[None]:
    """Translate the errors that asyncpg raises inside this context to `MidstreamerError`."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise postgres_errors.explain(error.sqlstate or "", str(error)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise postgres_errors.absent(error) from error


async def _as_it_is(_connection: Connection) -> None:
    """Do nothing when a connection returns to the pool.

    This replaces asyncpg's RESET ALL, which would cost a round trip; no session state is ever set.
    """
