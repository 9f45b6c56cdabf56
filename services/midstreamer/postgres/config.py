"""Settings of the process that runs PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from midstreamer.runtime.addresses import HostNames, Place
from midstreamer.runtime.config import SecuritySettings, Settings, TelemetrySettings


class PostgresSettings(Settings):
    """A PostgreSQL of our own with verified TLS, for evaluation; sync dials it."""

    section: ClassVar[str] = "postgres"

    id: str = "postgres-1"
    """Last part of this process's identity, `postgres/<id>`; its certificate carries it."""
    listen: Place = "127.0.0.1:5432"
    """TCP address for sync. Only TLS 1.3 is answered, and only the role `midstreamer` with its
    password is let into the database `midstreamer`."""
    names: HostNames = ("localhost",)
    """DNS names by which sync dials it; its certificate carries them. As text with commas between
    them."""
    password_file: Path | None = None
    """File with the password of the role, 16 characters at least; a changed one is taken over
    within two seconds. It must be set."""
    directory: Path = Path("var/postgres")
    """Where the data belong; one process at a time may use it. As root they really are below
    /var/lib/midstreamer, because PostgreSQL does not run as root."""
    connections: int = Field(100, ge=10, le=1000)
    """Most connections at once. A sync opens `sync.connections` and one more."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Longest that a stop takes: open transactions are given up, and the data are written."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What this process tells about itself; PostgreSQL's own log goes to standard output."""
    security: SecuritySettings = SecuritySettings()
    """The certificate of this process. The allowlist is not read."""
