"""The long-running verbs: settings, logs, probes, signals around one service each.

`/readyz` asks a service whether it answers requests or refuses them by name.  `/completez` asks
whether nothing that it needs is missing.  Both name the reasons when not.  They answer before the
service is there: then they say what its beginning waits for.

SIGTERM and SIGINT make it drain and stop; a second one ends it at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeAlias, TypeVar

import typer

from midstreamer.agent.config import AgentSettings
from midstreamer.cli import identities, parent, settings
from midstreamer.cluster import pod_reports
from midstreamer.cluster.pod_reports import Standing
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain import identity
from midstreamer.domain.errors import ConfigError, StoreError
from midstreamer.domain.identity import Kind
from midstreamer.postgres.config import PostgresSettings
from midstreamer.runtime import collecting, health, renewing, shutdown
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security.credentials import CredentialSource, Renewed
from midstreamer.sync.config import SyncSettings
from midstreamer.telemetry import logs, tracing
from midstreamer.transport.carrier import Carrier


class Service(Protocol):
    """What runs until it is cancelled."""

    def serving_reasons(self) -> list[str]:
        """Why it neither answers requests nor refuses them by name; empty when it does."""

    def complete_reasons(self) -> list[str]:
        """What it lacks to do its whole part; empty when nothing is missing."""

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Serve until drained or cancelled."""


S = TypeVar("S", SyncSettings, CoordinatorSettings, AgentSettings, PostgresSettings)
Built: TypeAlias = AbstractAsyncContextManager[tuple[Service, health.Warnings]]
Build: TypeAlias = Callable[[S, CredentialSource], Built]
"""How a process is made of its settings and credentials, and what should be mended about it."""

Set = typer.Option(
    None, "--set", metavar="KEY=VALUE", help="One setting, as in its section; may be repeated."
)
PrintConfig = typer.Option(False, "--print-config", help="Show each setting and its origin, end.")


def sync(context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig) -> None:
    """Run sync: the only process that speaks to PostgreSQL.

    Example: midstreamer sync --set dsn=postgresql://localhost/midstreamer
    """
    made = _settings(context, SyncSettings, sets, print_config)
    if made is not None:
        _serve(made, _sync_of)


def coordinator(
    context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig
) -> None:
    """Run a coordinator: clients ask it, it asks the agents and decides.

    Example: midstreamer coordinator --set listen=0.0.0.0:7400
    """
    made = _settings(context, CoordinatorSettings, sets, print_config)
    if made is not None:
        _serve(made, _coordinator_of)


def agent(context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig) -> None:
    """Run an agent: it holds shards of history and searches them.

    Example: midstreamer agent --set id=a2 --set sync=10.0.0.5:7401
    """
    made = _settings(context, AgentSettings, sets, print_config)
    if made is not None:
        _serve(made, _agent_of)


def postgres(
    context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig
) -> None:
    """Run PostgreSQL with verified TLS, for evaluation; sync dials it.

    Example: midstreamer postgres --set password_file=password --set names=db.example
    """
    made = _settings(context, PostgresSettings, sets, print_config)
    if made is not None:
        _serve(made, _postgres_of, hosts=made.names)


@asynccontextmanager
async def _sync_of(
    made: SyncSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    from midstreamer.security import tls
    from midstreamer.store.embedded import EmbeddedServer
    from midstreamer.store.postgres import PostgresStore
    from midstreamer.sync.service import SyncService

    carrier = _carrier(made, credentials)
    server = None if made.dsn else EmbeddedServer(made.directory)
    try:
        source = made.dsn if server is None else await server.start()
        store = PostgresStore(
            source,
            connections=made.connections,
            connect_s=made.connect_s,
            command_s=made.command_s,
            trust=(lambda: tls.dialling(credentials.current.anchors))
            if made.database_trust == "fleet"
            else None,
            password=_password_of(made),
        )
        yield SyncService(made, carrier, store), carrier.warnings
    finally:
        if server is not None:
            await server.stop()


def _password_of(made: SyncSettings) -> Callable[[], str] | None:
    """What reads the password for the next connection; a file that is wrong may be mended."""
    path = made.password_file
    if path is None:
        return None

    def read() -> str:
        from midstreamer.store import password

        try:
            return password.read(path, "sync.password_file")
        except ConfigError as error:
            raise StoreError(error.message, retry_after_s=1.0) from error

    return read


@asynccontextmanager
async def _coordinator_of(
    made: CoordinatorSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    from midstreamer.coordinator.service import CoordinatorService

    carrier = _carrier(made, credentials)
    yield CoordinatorService(made, carrier), carrier.warnings


@asynccontextmanager
async def _agent_of(
    made: AgentSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    from midstreamer.agent.service import AgentService  # loads the kernels

    carrier = _carrier(made, credentials)
    yield AgentService(made, carrier), carrier.warnings


@asynccontextmanager
async def _postgres_of(
    made: PostgresSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    from midstreamer.postgres.service import PostgresService

    service = PostgresService(made, credentials)
    yield service, service.warnings


def _carrier(
    made: SyncSettings | CoordinatorSettings | AgentSettings, credentials: CredentialSource
) -> Carrier:
    from midstreamer.transport import carriers

    limits = identities.limits_of(made.limits)
    return carriers.build(credentials, limits=limits, proxy=made.security.proxy)


def _settings(
    context: typer.Context, kind: type[S], sets: Sequence[str] | None, print_config: bool
) -> S | None:
    made = settings.of(context, kind, settings.assignments(sets or ()))
    if print_config:
        settings.show([made])
        return None
    return made


def _serve(made: S, build: Build[S], *, hosts: Collection[str] = ()) -> None:
    parent.follow(os.environ)
    logs.configure(made.telemetry.json_logs, made.telemetry.level)
    told = made.telemetry
    tracing.configure(
        told.traces,
        service=made.section,
        instance=made.id,
        endpoint=told.traces_endpoint,
        ratio=told.traces_ratio,
    )
    life = Lifecycle(drain_s=made.drain_s)
    try:
        stopped = shutdown.run(
            _run(made, build, hosts, life), lambda number: life.begin(number.name)
        )
    finally:
        tracing.close()
    if stopped is signal.SIGINT:
        raise typer.Exit(130)


async def _run(made: S, build: Build[S], hosts: Collection[str], life: Lifecycle) -> None:
    me = identity.make(made.security.trust_domain, Kind(made.section), made.id)
    source = identities.source(me, made.security, hosts=hosts)
    asked = Asked(source)
    teller = identities.teller(me, made.security)
    async with (
        health.served(made.telemetry.listen, asked.checks),
        pod_reports.told(teller, lambda: None if life.draining else asked.standing()),
        renewing.kept(source),
        build(made, source) as (service, warnings),
    ):
        asked.about(service, warnings)
        with collecting.sparing():
            await service.run(life)


class Asked:
    """What the probes of one process ask: how its beginning goes, and then the service."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._service: Service | None = None
        self._warned: health.Warnings = health.unwarned
        self.checks = health.Checks(
            ready=lambda: "; ".join(self._lacks(lambda service: service.serving_reasons())),
            complete=lambda: "; ".join(self._lacks(lambda service: service.complete_reasons())),
            warnings=lambda: self._warned(),  # noqa: PLW0108 - it is replaced
        )

    def standing(self) -> Standing:
        """How the process stands, as far as others should be told."""
        if self._service is None:
            waits = self._waits()
            return Standing(pod_reports.WAITING, waits) if waits else pod_reports.WELL
        if why := self.checks.ready():
            return Standing(pod_reports.NOT_READY, why)
        if why := self.checks.complete():
            return Standing(pod_reports.INCOMPLETE, why)
        return pod_reports.WELL

    def about(self, service: Service, warnings: health.Warnings) -> None:
        """From now on ask these."""
        self._service, self._warned = service, warnings

    def _lacks(self, reasons: Callable[[Service], list[str]]) -> list[str]:
        if self._service is not None:
            return reasons(self._service)
        return [self._waits() or "starting"]

    def _waits(self) -> str:
        waiting = self._source.waiting if isinstance(self._source, Renewed) else ""
        return f"waiting for a certificate: {waiting}" if waiting else ""
