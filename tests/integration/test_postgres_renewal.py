"""The database's certificate is renewed, and its authority replaced, while sync goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from midstreamer.cli.local_fleet import free_ports
from midstreamer.domain.errors import StoreError
from midstreamer.domain.identity import Identity, Kind
from midstreamer.postgres import service
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.postgres.service import PostgresService
from midstreamer.runtime import credential_renewal
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security import tls
from midstreamer.security.requested_credentials import RequestedSource, Signed
from midstreamer.store.driver import Way
from midstreamer.store.embedded_postgres import EmbeddedServer
from midstreamer.store.postgres import PostgresStore
from tests.support.database import NAMES, WORD
from tests.support.identity_builders import an_authority, who
from tests.support.processes import until
from tests.support.scripted_issuers import ScriptedIssuer

pytestmark = pytest.mark.integration


@dataclass
class NamingIssuer(ScriptedIssuer):
    """Signs certificates that contain the host names `NAMES`.

    Each answer also names the authorities to trust: the issuer's own authority, and ``further``.
    """

    further: list[x509.Certificate] = field(default_factory=list)

    def honest(self, request: x509.CertificateSigningRequest, identity: Identity) -> Signed:
        days = self.life_s / 86_400.0
        leaf = self.authority.sign(request, identity, now_s=self.now(), days=days, dns_names=NAMES)
        return Signed((leaf,), (self.authority.certificate, *self.further))


@dataclass
class Running:
    """A `PostgresService` in the event loop of this test, and the source of its certificates."""

    issuer: NamingIssuer
    source: RequestedSource
    service: PostgresService
    dsn: str

    @property
    def serial(self) -> int:
        """Serial number of the certificate in force."""
        return self.source.current.certificate.serial_number

    def way(self) -> Way:
        return Way(
            self.dsn,
            trust=lambda: tls.dialling(self.source.current.anchors),
            password=lambda: WORD,
        )


@asynccontextmanager
async def running(folder: Path, *, life_s: float) -> AsyncIterator[Running]:
    (port,) = free_ports(1)
    (folder / "password").write_text(WORD)
    settings = PostgresSettings(
        listen=f"127.0.0.1:{port}",
        names=NAMES,
        password_file=folder / "password",
        directory=folder / "data",
    )
    issuer = NamingIssuer(life_s=life_s)
    source = RequestedSource(who(Kind.POSTGRES, "p1"), issuer, hosts=NAMES)
    life, ready = Lifecycle(), asyncio.Event()
    async with credential_renewal.kept(source):
        database = PostgresService(settings, source)
        task = asyncio.create_task(database.run(life, ready=ready))
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert ready.is_set(), task.exception()
            dsn = f"postgresql://midstreamer@localhost:{port}/midstreamer"
            yield Running(issuer, source, database, dsn)
        finally:
            waiting.cancel()
            life.drain("the test is over")
            await task
            server = EmbeddedServer(settings.directory, setup=service.set_up(settings))
            await server.erase()


def shown_to(connection: Any) -> int:
    """Return the serial number of the certificate that the server presented on a connection."""
    shown = connection._transport.get_extra_info("ssl_object").getpeercert()
    return int(shown["serialNumber"], 16)


async def test_a_renewal_under_queries_loses_nothing_and_new_connections_see_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, life_s=3.0) as here:
        long = await here.way().connect("long")
        seen = [shown_to(long)]
        loop = asyncio.get_running_loop()
        until_s, answers = loop.time() + 7.0, 0
        while loop.time() < until_s:
            answers += await long.fetchval("SELECT 1")
            before = here.serial
            short = await here.way().connect("short")
            after = here.serial
            answers += await short.fetchval("SELECT 1")
            assert shown_to(short) in (before, after)
            if shown_to(short) != seen[-1]:
                seen.append(shown_to(short))
            await short.close()
        assert len(seen) >= 3
        assert len(set(seen)) == len(seen)
        assert answers > 20
        assert here.service.serving_reasons() == []
        await long.close()


async def test_sync_follows_an_authority_that_is_replaced_by_way_of_both(tmp_path: Path) -> None:
    async with running(tmp_path, life_s=3.0) as here:
        store = PostgresStore(here.dsn, trust=here.way().trust, password=lambda: WORD)
        await store.open()
        before, after = here.issuer.authority, an_authority()
        here.issuer.further = [after.certificate]
        await _renewed(here)
        here.issuer.authority, here.issuer.further = after, [before.certificate]
        await _renewed(here)
        here.issuer.further = []
        await _renewed(here)
        assert here.source.current.anchors == (after.certificate,)
        # The store still uses a connection that it opened before the authority was replaced.
        assert await store.position() == 0
        connection = await here.way().connect("new")
        assert shown_to(connection) == here.serial
        await connection.close()
        await store.close()
        only_before = PostgresStore(
            here.dsn, trust=lambda: tls.dialling([before.certificate]), password=lambda: WORD
        )
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            await only_before.open()


async def _renewed(here: Running) -> None:
    """Wait until ``here.source`` has the next certificate of the database."""
    before = here.serial

    async def is_another() -> bool:
        return here.serial != before

    await until(is_another, "the next certificate", within_s=10)
