"""Runs a PostgreSQL server behind the gate, which terminates TLS.

The password and the certificate may change while the server runs.

The server is the embedded one (`store.embedded_postgres`).  Only the role ``midstreamer`` can log
in, with its password and into its own database; the superuser can never log in.  The password is
set before the server accepts its first connection.

The process is ready if its last login through the gate succeeded.  It logs in with the present
password and accepts only the present certificate.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from contextlib import AsyncExitStack

from cryptography import x509

from midstreamer.domain.errors import ConfigError, MidstreamerError
from midstreamer.postgres import scram_verifier
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.postgres.tls_gate import Gate
from midstreamer.runtime import shutdown
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security import certificate_chain, tls
from midstreamer.security.credentials import CredentialSource
from midstreamer.store import driver, password
from midstreamer.store.driver import Way
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.embedded_settings import DATABASE, ROLE, Setup
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Limits
from midstreamer.transport.trust import Trust

CHARACTERS_MIN = 16
"""Least number of characters in the password."""
LOOK_S = 0.5
"""Seconds between two checks whether the files of password, certificate or authorities changed."""
WELL_S, ILL_S = 5.0, 0.5
"""Seconds until the next test login after a successful one, and after a failed one."""
LOGIN_S = 5.0
"""Maximum seconds for one step of a test login, and for one SQL statement in it."""
SPARE_GUESTS = 32
"""Connections that the gate accepts beyond the server's own limit. The clients beyond the limit get
PostgreSQL's error for too many connections, which says more than a closed connection."""
SUPERUSER = "postgres"
"""Name of the superuser, which cannot log in."""
PASSWORD = "postgres.password_file"  # noqa: S105 - the name of a setting
"""Name of the setting with the password file, for error messages."""

_RULES = f"""\
# Written at every start by midstreamer.postgres; changes here are lost.
local {DATABASE} {ROLE} scram-sha-256
local all all reject
host all all all reject
"""
_SETTINGS = """\
# Of the process `midstreamer postgres`.
max_connections = {connections}
password_encryption = scram-sha-256
authentication_timeout = 10s
# Detect a lost client even during a statement, so that it keeps no row locked.
client_connection_check_interval = 5s
# Log no failed statements: they may contain stored values or the verifier of a password.
log_min_error_statement = panic
"""

log = logs.get(__name__)


class PostgresService:
    """The process `midstreamer postgres`: a PostgreSQL server with verified TLS."""

    def __init__(self, settings: PostgresSettings, source: CredentialSource) -> None:
        """``source`` must hold credentials already; the caller keeps them up to date."""
        self._settings = settings
        self._trust = Trust(source, Limits(), "")
        self._trouble = "PostgreSQL is starting"
        self._complaint = ""
        self._password = ""
        self._server = EmbeddedServer(settings.directory, setup=set_up(settings))

    def serving_reasons(self) -> list[str]:
        """Return why this process's last test login to its server failed; empty if it succeeded."""
        return [self._trouble] if self._trouble else []

    def complete_reasons(self) -> list[str]:
        """Return `serving_reasons`: to be complete, this process needs no more than to serve."""
        return self.serving_reasons()

    def warnings(self) -> list[str]:
        """Return what is wrong with files that have changed.

        Until such a file is mended, this process uses the earlier content.
        """
        return [*self._trust.wrong.values(), *([self._complaint] if self._complaint else [])]

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until drained or cancelled.

        ``ready`` is set when the gate accepts clients.  Raise ConfigError or StoreError if the
        server cannot be started.
        """
        life = life or Lifecycle(drain_s=self._settings.drain_s)
        host, _, port = self._settings.listen.rpartition(":")
        self._password = self._read()
        async with life, AsyncExitStack() as ends:
            ends.push_async_callback(self._end)
            await self._start()
            gate = Gate(
                self._server.socket,
                lambda: self._trust.current,
                life,
                guests_max=self._settings.connections + SPARE_GUESTS,
            )
            bound = await ends.enter_async_context(gate.opened(host.strip("[]"), int(port)))
            log.info("postgres.opened", address=f"{bound[0]}:{bound[1]}")
            async with (
                life.background("postgres.server", self._keep),
                life.background("postgres.files", self._look),
                life.background("postgres.login", lambda: self._log_in(*bound)),
            ):
                life.serve()
                if ready is not None:
                    ready.set()
                await life.drain_asked()
            self._trouble = "PostgreSQL is stopping"
            await life.drained(self._server.stop())

    async def _end(self) -> None:
        """Stop the server at the end of this process, even if this task is cancelled meanwhile."""
        await shutdown.finish(self._server.stop())

    # --- the server ---------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._server.start([_role_with(self._password)])

    async def _keep(self) -> None:
        """Restart the server whenever it ends."""
        while True:
            status = await self._server.wait()
            self._trouble = f"PostgreSQL ended with status {status} and is being restarted"
            log.error("postgres.ended", status=status)
            await self._start()

    # --- what may change ----------------------------------------------------------------------

    async def _look(self) -> None:
        """Look for changed files again and again; apply a new certificate and a new password."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._trust.refresh()
            await self._take_password()

    async def _take_password(self) -> None:
        try:
            wanted = self._read()
        except ConfigError as error:
            if error.message != self._complaint:
                log.warning("password.unchanged", detail=error.message)
            self._complaint = error.message
            return
        self._complaint = ""
        if wanted == self._password:
            return
        try:
            await self._change_password(self._password, wanted)
        except MidstreamerError as error:
            # The server may have the new password already: an earlier attempt may have changed it,
            # and its answer may have been lost. So try to log in with the new password too.
            try:
                await self._change_password(wanted, wanted)
            except MidstreamerError:
                raise error from None
        self._password = wanted
        log.info("password.changed")

    async def _change_password(self, present: str, wanted: str) -> None:
        async with driver.door():
            way = Way(self._server.dsn, LOGIN_S, LOGIN_S, password=lambda: present)
            connection = await way.connect("midstreamer password")
            try:
                await connection.execute(_own(wanted))
            finally:
                connection.terminate()

    def _read(self) -> str:
        path = self._settings.password_file
        if path is None:
            raise ConfigError(
                f"{PASSWORD} is not set: name a file with the password of the role {ROLE};"
                " `openssl rand -base64 32` makes a password"
            )
        found = password.read(path, PASSWORD, characters_min=CHARACTERS_MIN)
        if not found.isascii():
            raise ConfigError(
                f"{PASSWORD} = {path}: its password may have only ASCII characters; `openssl rand"
                " -base64 32` makes one"
            )
        return found

    # --- the test login -----------------------------------------------------------------------

    async def _log_in(self, host: str, port: int) -> None:
        """Log in again and again, as sync does, and note why the last login failed."""
        while True:
            try:
                await self._logged_in(host, port)
                self._trouble = self._flaw()
            except MidstreamerError as error:
                self._trouble = error.message
            await asyncio.sleep(ILL_S if self._trouble else WELL_S)

    async def _logged_in(self, host: str, port: int) -> None:
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        here = f"[{here}]" if ":" in here else here
        way = Way(
            f"postgresql://{ROLE}@{here}:{port}/{DATABASE}",
            LOGIN_S,
            LOGIN_S,
            trust=lambda: _exactly(self._trust.current.certificate),
            password=lambda: self._password,
        )
        async with driver.door():
            connection = await way.connect("midstreamer login")
            try:
                await connection.fetchval("SELECT 1")
                await connection.close(timeout=LOGIN_S)
            finally:
                connection.terminate()

    def _flaw(self) -> str:
        """Return why sync would refuse the present certificate; empty if it would accept it."""
        current = self._trust.current
        if current.not_after_s < time.time():
            return f"the certificate of {self._trust.me.name} has expired"
        names = certificate_chain.extension(current.certificate, x509.SubjectAlternativeName)
        present = names.get_values_for_type(x509.DNSName) if names else []
        missing = [name for name in self._settings.names if name not in present]
        if missing:
            return (
                f"the certificate of {self._trust.me.name} does not carry {', '.join(missing)} of"
                " postgres.names: remove the certificate, so that a new one is made"
            )
        return ""


def set_up(settings: PostgresSettings) -> Setup:
    """Return the setup of the embedded server for these settings."""
    return Setup(
        superuser=SUPERUSER,
        first=(f"CREATE ROLE {ROLE}", f"CREATE DATABASE {DATABASE} OWNER {ROLE}"),
        rules=_RULES,
        settings=_SETTINGS.format(connections=settings.connections),
        tells_here=True,
    )


def _role_with(word: str) -> str:
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    return f"ALTER ROLE {ROLE} {rights} PASSWORD '{_verifier(word)}'"


def _own(word: str) -> str:
    return f"ALTER ROLE {ROLE} PASSWORD '{_verifier(word)}'"


def _verifier(word: str) -> str:
    return scram_verifier.verifier(word, secrets.token_bytes(scram_verifier.SALT_BYTES))


def _exactly(certificate: x509.Certificate) -> ssl.SSLContext:
    """Return a TLS context that accepts exactly this certificate, whatever the host name is."""
    context = tls.dialling([certificate])
    context.check_hostname = False
    return context
