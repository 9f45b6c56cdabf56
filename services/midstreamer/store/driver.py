"""Connections to PostgreSQL: the only module that knows asyncpg.

A connection is made with what holds at that moment: the password is read again, and the database is
judged by the authorities that are trusted then.  So a changed password and a renewed authority need
no restart; connections that are open stay open.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from midstreamer.domain.errors import ConfigError
from midstreamer.store import dsn, trouble

Connection = Any  # asyncpg ships no types of its own
Pool = Any


@dataclass(frozen=True)
class Way:
    """How a database is reached."""

    dsn: str
    """Checked by `store.dsn`."""
    connect_s: float = 5.0
    command_s: float = 60.0
    trust: Callable[[], ssl.SSLContext] | None = None
    """TLS for the next connection, instead of what the DSN says about it; no connection is made
    without it."""
    password: Callable[[], str] | None = None
    """The password for the next connection, instead of one in the DSN."""

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
        """One connection; ``name`` is what the server calls it."""
        return await self._connect(
            self.dsn,
            timeout=self.connect_s,
            command_timeout=command_s or self.command_s,
            server_settings={"application_name": name},
        )

    async def pool(self, most: int) -> Pool:
        """Connections that are made again by themselves, at most so many."""
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
        """A DSN that only the driver cannot read: its words may quote a password."""
        try:
            yield
        except (asyncpg.InterfaceError, ssl.SSLError):
            raise
        except (ValueError, IndexError):
            told = f"sync.dsn = {dsn.shown(self.dsn)!r} cannot be read by the driver"
            raise ConfigError(f"{told}: write {dsn.FORM}") from None


@asynccontextmanager
async def door() -> AsyncIterator[None]:
    """Where asyncpg's errors become ours."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise trouble.explain(error.sqlstate or "", str(error)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise trouble.absent(error) from error


async def _as_it_is(_connection: Connection) -> None:
    """In place of asyncpg's RESET ALL: no session state is ever set, and it is a round trip."""
