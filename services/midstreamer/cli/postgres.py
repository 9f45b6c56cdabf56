"""``midstreamer postgres``: a PostgreSQL of our own with verified TLS."""

from __future__ import annotations

import os

import typer

from midstreamer.cli import identities, parent, services, settings
from midstreamer.cluster import telling
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.postgres.config import PostgresSettings
from midstreamer.runtime import health, renewing, shutdown
from midstreamer.runtime.lifecycle import Lifecycle
from midstreamer.telemetry import logs, tracing


def postgres(
    context: typer.Context,
    sets: list[str] = services.Set,
    print_config: bool = services.PrintConfig,
) -> None:
    """Run PostgreSQL with verified TLS, for evaluation; sync dials it.

    Example: midstreamer postgres --set password_file=password --set names=db.example
    """
    made = settings.of(context, PostgresSettings, settings.assignments(sets or ()))
    if print_config:
        settings.show([made])
        return
    parent.follow(os.environ)
    logs.configure(made.telemetry.json_logs, made.telemetry.level)
    tracing.configure(made.telemetry.traces, service=made.section)
    life = Lifecycle(drain_s=made.drain_s)
    stopped = shutdown.run(_run(made, life), lambda number: life.begin(number.name))
    services.ended_by(stopped)


async def _run(made: PostgresSettings, life: Lifecycle) -> None:
    me = identity.make(made.security.trust_domain, Kind.POSTGRES, made.id)
    source = identities.source(me, made.security, hosts=made.names)
    asked = services.Asked(source)
    teller = identities.teller(me, made.security)
    async with (
        health.served(made.telemetry.listen, asked.checks),
        telling.told(teller, source),
        renewing.kept(source),
    ):
        from midstreamer.postgres.service import PostgresService

        service = PostgresService(made, source)
        asked.about(service, service.warnings)
        await service.run(life)
