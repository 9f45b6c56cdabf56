"""The commands that run one service each: sync, coordinator, agent and postgres.

A command reads the settings of its service, configures the logs, answers the health probes, and
runs the service until a signal stops it.

The probe `/readyz` says whether the service is serving. The probe `/completez` says whether the
service has everything that it needs. If the answer is no, it gives the reasons. Both probes work
before the service has started; they then say what the start waits for.

SIGTERM and SIGINT make the process drain and stop; a second signal ends it at once.
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
from midstreamer.cli import exit_with_parent, peer_credentials, settings
from midstreamer.cluster import pod_reports
from midstreamer.cluster.pod_reports import Standing
from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain import identity
from midstreamer.domain.errors import ConfigError, StoreError
from midstreamer.domain.identity import Kind
from midstreamer.postgres.postgres_settings import PostgresSettings
from midstreamer.runtime import credential_renewal, garbage_collection, health, shutdown
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.security.credentials import CredentialSource, Renewed
from midstreamer.sync.config import SyncSettings
from midstreamer.telemetry import logs, tracing
from midstreamer.transport.carrier import Carrier


class Service(Protocol):
    """What a command of this module runs: sync, a coordinator, an agent or PostgreSQL."""

    def serving_reasons(self) -> list[str]:
        """Return the reasons why the service is not serving; an empty list when it is serving."""

    def complete_reasons(self) -> list[str]:
        """Return what the service needs but does not have; an empty list if nothing is missing."""

    async def run(
        self, life: Lifecycle | None = None, *, ready: asyncio.Event | None = None
    ) -> None:
        """Run the service until it has drained, or until the caller cancels this method."""


S = TypeVar("S", SyncSettings, CoordinatorSettings, AgentSettings, PostgresSettings)
Built: TypeAlias = AbstractAsyncContextManager[tuple[Service, health.Warnings]]
"""Context manager that yields a service and the function that returns the service's warnings."""
Build: TypeAlias = Callable[[S, CredentialSource], Built]
"""Function that creates a service from its settings and credentials."""

Set = typer.Option(
    None, "--set", metavar="KEY=VALUE", help="Set one setting of this section; may be repeated."
)
PrintConfig = typer.Option(
    False, "--print-config", help="Show each setting with its origin, and exit."
)


def sync(context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig) -> None:
    """Run sync: the only process that connects to PostgreSQL.

    Example: midstreamer sync --set dsn=postgresql://localhost/midstreamer
    """
    service_settings = _settings(context, SyncSettings, sets, print_config)
    if service_settings is not None:
        _serve(service_settings, _sync_of)


def coordinator(
    context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig
) -> None:
    """Run a coordinator: it takes clients' requests, queries the agents, and decides.

    Example: midstreamer coordinator --set listen=0.0.0.0:7400
    """
    service_settings = _settings(context, CoordinatorSettings, sets, print_config)
    if service_settings is not None:
        _serve(service_settings, _coordinator_of)


def agent(context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig) -> None:
    """Run an agent: it keeps shards of the history and searches them.

    Example: midstreamer agent --set id=a2 --set sync=10.0.0.5:7401
    """
    service_settings = _settings(context, AgentSettings, sets, print_config)
    if service_settings is not None:
        _serve(service_settings, _agent_of)


def postgres(
    context: typer.Context, sets: list[str] = Set, print_config: bool = PrintConfig
) -> None:
    """Run PostgreSQL with verified TLS, for evaluation; sync connects to it.

    Example: midstreamer postgres --set password_file=password --set names=db.example
    """
    service_settings = _settings(context, PostgresSettings, sets, print_config)
    if service_settings is not None:
        _serve(service_settings, _postgres_of, hosts=service_settings.names)


@asynccontextmanager
async def _sync_of(
    service_settings: SyncSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    """Yield sync with its store.  If the setting ``dsn`` is empty, start a PostgreSQL server for
    the store, and stop this server when the context ends."""
    from midstreamer.security import tls
    from midstreamer.store.embedded_postgres import EmbeddedServer
    from midstreamer.store.postgres import PostgresStore
    from midstreamer.sync.service import SyncService

    carrier = _carrier(service_settings, credentials)
    server = None if service_settings.dsn else EmbeddedServer(service_settings.directory)
    try:
        source = service_settings.dsn if server is None else await server.start()
        store = PostgresStore(
            source,
            connections=service_settings.connections,
            connect_s=service_settings.connect_s,
            command_s=service_settings.command_s,
            trust=(lambda: tls.dialling(credentials.current.anchors))
            if service_settings.database_trust == "fleet"
            else None,
            password=_password_of(service_settings),
        )
        yield SyncService(service_settings, carrier, store), carrier.warnings
    finally:
        if server is not None:
            await server.stop()


def _password_of(service_settings: SyncSettings) -> Callable[[], str] | None:
    """Return a function that reads the password file.  Sync calls the function for each new
    connection to PostgreSQL.

    Return None when no password file is configured.  If the file is missing or wrong, the function
    raises an error after which sync tries again, because someone may correct the file meanwhile.
    """
    path = service_settings.password_file
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
    service_settings: CoordinatorSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    """Create a coordinator."""
    from midstreamer.coordinator.service import CoordinatorService

    carrier = _carrier(service_settings, credentials)
    yield CoordinatorService(service_settings, carrier), carrier.warnings


@asynccontextmanager
async def _agent_of(
    service_settings: AgentSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    """Create an agent."""
    from midstreamer.agent.service import AgentService  # imports the kernels

    carrier = _carrier(service_settings, credentials)
    yield AgentService(service_settings, carrier), carrier.warnings


@asynccontextmanager
async def _postgres_of(
    service_settings: PostgresSettings, credentials: CredentialSource
) -> AsyncIterator[tuple[Service, health.Warnings]]:
    """Yield the service that runs a PostgreSQL server."""
    from midstreamer.postgres.service import PostgresService

    service = PostgresService(service_settings, credentials)
    yield service, service.warnings


def _carrier(
    service_settings: SyncSettings | CoordinatorSettings | AgentSettings,
    credentials: CredentialSource,
) -> Carrier:
    """Return the carrier of a service."""
    from midstreamer.transport import carriers

    limits = peer_credentials.limits_of(service_settings.limits)
    return carriers.build(credentials, limits=limits, proxy=service_settings.security.proxy)


def _settings(
    context: typer.Context, kind: type[S], sets: Sequence[str] | None, print_config: bool
) -> S | None:
    """Return the settings of a service; with ``--print-config`` print them and return None."""
    loaded = settings.of(context, kind, settings.assignments(sets or ()))
    if print_config:
        settings.show([loaded])
        return None
    return loaded


def _serve(service_settings: S, build: Build[S], *, hosts: Collection[str] = ()) -> None:
    """Run a service until a signal stops it."""
    exit_with_parent.follow(os.environ)
    logs.configure(service_settings.telemetry.json_logs, service_settings.telemetry.level)
    telemetry = service_settings.telemetry
    tracing.configure(
        telemetry.traces,
        service=service_settings.section,
        instance=service_settings.id,
        endpoint=telemetry.traces_endpoint,
        ratio=telemetry.traces_ratio,
    )
    life = Lifecycle(drain_s=service_settings.drain_s)
    try:
        stopped = shutdown.run(
            _run(service_settings, build, hosts, life), lambda number: life.begin(number.name)
        )
    finally:
        tracing.close()
    if stopped is signal.SIGINT:
        raise typer.Exit(130)


async def _run(
    service_settings: S, build: Build[S], hosts: Collection[str], life: Lifecycle
) -> None:
    """Run a service with its probes, its reports to Kubernetes and its certificate renewal."""
    me = identity.make(
        service_settings.security.trust_domain, Kind(service_settings.section), service_settings.id
    )
    source = peer_credentials.source(me, service_settings.security, hosts=hosts)
    asked = Asked(source)
    teller = peer_credentials.teller(me, service_settings.security)
    async with (
        health.served(service_settings.telemetry.listen, asked.checks),
        pod_reports.told(teller, lambda: None if life.draining else asked.standing()),
        credential_renewal.kept(source),
        build(service_settings, source) as (service, warnings),
    ):
        asked.about(service, warnings)
        with garbage_collection.sparing():
            await service.run(life)


class Asked:
    """Answers the health probes of one process, before and after its service has started."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._service: Service | None = None
        self._warned: health.Warnings = health.unwarned
        self.checks = health.Checks(
            ready=lambda: "; ".join(self._lacks(lambda service: service.serving_reasons())),
            complete=lambda: "; ".join(self._lacks(lambda service: service.complete_reasons())),
            warnings=lambda: self._warned(),  # noqa: PLW0108 - the attribute is replaced later
        )

    def standing(self) -> Standing:
        """Return the state of the process, for the report to Kubernetes."""
        if self._service is None:
            waits = self._waits()
            return Standing(pod_reports.WAITING, waits) if waits else pod_reports.WELL
        if why := self.checks.ready():
            return Standing(pod_reports.NOT_READY, why)
        if why := self.checks.complete():
            return Standing(pod_reports.INCOMPLETE, why)
        return pod_reports.WELL

    def about(self, service: Service, warnings: health.Warnings) -> None:
        """Record that the service has started: from now on, the probes report its state."""
        self._service, self._warned = service, warnings

    def _lacks(self, reasons: Callable[[Service], list[str]]) -> list[str]:
        """Return what ``reasons`` returns for the service.  Before the service has started, return
        what the start waits for."""
        if self._service is not None:
            return reasons(self._service)
        return [self._waits() or "starting"]

    def _waits(self) -> str:
        """Return why the process still waits for its first certificate; "" if it does not wait."""
        waiting = self._source.waiting if isinstance(self._source, Renewed) else ""
        return f"waiting for a certificate: {waiting}" if waiting else ""
