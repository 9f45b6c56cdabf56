"""PostgreSQL as a process: a server behind its gate, whose password and certificate may change.

The server is the embedded one, set up so that only the role `midstreamer` comes in, with a password
and into its own database; its superuser can never log in.  The password is set before the server
takes its first connection, by a process that no client reaches.

Ready means: a login through the gate succeeded lately, by the present password, and the gate showed
exactly the certificate that is in force.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from contextlib import AsyncExitStack

from cryptography import x509

from midstreamer.domain.errors import ConfigError, MidstreamerError
from midstreamer.postgres import scram
from midstreamer.postgres.config import PostgresSettings
from midstreamer.postgres.gate import Gate
from midstreamer.runtime import shutdown
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security import chain, tls
from midstreamer.security.credentials import CredentialSource
from midstreamer.store import driver, password
from midstreamer.store.driver import Way
from midstreamer.store.embedded import EmbeddedServer
from midstreamer.store.setup import DATABASE, ROLE, Setup
from midstreamer.telemetry import logs
from midstreamer.transport.carrier import Limits
from midstreamer.transport.trust import Trust

CHARACTERS_MIN = 16
LOOK_S = 0.5
"""How often files are looked at: password, certificate, authorities."""
WELL_S, ILL_S = 5.0, 0.5
"""How long after a login that succeeded, or failed, the next one is tried."""
LOGIN_S = 5.0
SPARE_GUESTS = 32
"""So many more than the server takes come as far as its own refusal, which names the reason."""
SUPERUSER = "postgres"
PASSWORD = "postgres.password_file"  # noqa: S105 - the name of a setting

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
# Whoever is gone keeps no row locked, not even in the middle of a statement.
client_connection_check_interval = 5s
# A statement that failed may hold what somebody stored, or the verifier of a password.
log_min_error_statement = panic
"""

log = logs.get(__name__)


class PostgresService:
    """One PostgreSQL with verified TLS."""

    def __init__(self, settings: PostgresSettings, source: CredentialSource) -> None:
        """``source`` has credentials already, and somebody keeps them fresh."""
        self._settings = settings
        self._trust = Trust(source, Limits(), "")
        self._trouble = "PostgreSQL is starting"
        self._complaint = ""
        self._password = ""
        self._server = EmbeddedServer(settings.directory, setup=set_up(settings))

    def serving_reasons(self) -> list[str]:
        """Why nobody could log in lately; empty when somebody could."""
        return [self._trouble] if self._trouble else []

    def complete_reasons(self) -> list[str]:
        """The same: it has no parts that others lack."""
        return self.serving_reasons()

    def warnings(self) -> list[str]:
        """What is wrong with a file while what was read before stays in force."""
        return [*self._trust.wrong.values(), *([self._complaint] if self._complaint else [])]

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until drained or cancelled; ConfigError or StoreError when it cannot begin."""
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
        """Leave no server behind, however this process is stopped."""
        await shutdown.finish(self._server.stop())

    # --- the server ---------------------------------------------------------------------------

    async def _start(self) -> None:
        await self._server.start([_role_with(self._password)])

    async def _keep(self) -> None:
        """Start the server again whenever it ends."""
        while True:
            status = await self._server.wait()
            self._trouble = f"PostgreSQL ended with status {status} and is started again"
            log.error("postgres.ended", status=status)
            await self._start()

    # --- what may change ----------------------------------------------------------------------

    async def _look(self) -> None:
        """Take over what changed in files: certificates for the next client, a new password."""
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
            # The answer to an earlier change may have been lost: then the new one is in force.
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
                " `openssl rand -base64 32` makes one"
            )
        found = password.read(path, PASSWORD, characters_min=CHARACTERS_MIN)
        if not found.isascii():
            raise ConfigError(f"{PASSWORD} = {path}: its password must be of ASCII characters")
        return found

    # --- whether all is well ------------------------------------------------------------------

    async def _log_in(self, host: str, port: int) -> None:
        """Log in as sync does, again and again."""
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
        """What is wrong with the certificate, so that sync would refuse it; empty if nothing is."""
        current = self._trust.current
        if current.not_after_s < time.time():
            return f"the certificate of {self._trust.me.name} has expired"
        names = chain.extension(current.certificate, x509.SubjectAlternativeName)
        carried = names.get_values_for_type(x509.DNSName) if names else []
        missing = [name for name in self._settings.names if name not in carried]
        if missing:
            return (
                f"the certificate of {self._trust.me.name} does not carry {', '.join(missing)} of"
                " postgres.names: remove it, so that a new one is made"
            )
        return ""


def set_up(settings: PostgresSettings) -> Setup:
    """How the server is set up."""
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
    return scram.verifier(word, secrets.token_bytes(scram.SALT_BYTES))


def _exactly(certificate: x509.Certificate) -> ssl.SSLContext:
    """TLS that believes one certificate and no other, under whatever name."""
    made = tls.dialling([certificate])
    made.check_hostname = False
    return made
