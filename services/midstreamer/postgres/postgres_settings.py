"""Settings of the process `midstreamer postgres`, which runs a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from midstreamer.runtime.addresses import HostNames, Place
from midstreamer.runtime.config import SecuritySettings, Settings, TelemetrySettings


class PostgresSettings(Settings):
    """Settings of a PostgreSQL server with verified TLS, for evaluation; sync connects to it."""

    section: ClassVar[str] = "postgres"

    id: str = "postgres-1"
    """Last part of this process's identity, `postgres/<id>`. The identity must be the one in the
    process's certificate."""
    listen: Place = "127.0.0.1:5432"
    """TCP address to listen on for sync. Clients must use TLS 1.3, and only the role `midstreamer`
    may log in, with its password and into the database `midstreamer`."""
    names: HostNames = ("localhost",)
    """DNS names by which sync connects to this process, as text separated by commas. The process's
    certificate must contain all of them."""
    password_file: Path | None = None
    """File with the password of the role `midstreamer`, at least 16 characters. A changed password
    takes effect within two seconds. This setting is required."""
    directory: Path = Path("var/postgres")
    """Directory of the data; only one process at a time may use it. If this process runs as root,
    the data is below /var/lib/midstreamer instead, because PostgreSQL does not run as root."""
    connections: int = Field(100, ge=10, le=1000)
    """Maximum connections at once. Each sync opens `sync.connections` connections and one more."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Maximum seconds that a stop may take. Meanwhile PostgreSQL aborts open transactions and
    writes its data to disk."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Logs, metrics and traces of this process. PostgreSQL's own log goes to standard output."""
    security: SecuritySettings = SecuritySettings()
    """The certificate of this process. The allowlist is not used here."""
