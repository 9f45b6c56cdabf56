"""Settings of sync: where it listens, where PostgreSQL is, and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from midstreamer.protocol import frames
from midstreamer.runtime.addresses import Address
from midstreamer.runtime.config import (
    LimitSettings,
    SecuritySettings,
    Settings,
    TelemetrySettings,
)
from midstreamer.store.dsn import Dsn
from midstreamer.sync import leases, quota


class SyncSettings(Settings):
    """The process that alone speaks to PostgreSQL."""

    section: ClassVar[str] = "sync"

    id: str = "sync-1"
    """Last part of this process's identity, `<kind>/<id>`; its certificate carries it."""
    listen: Address = "127.0.0.1:7450"
    """UDP address for agents and coordinators; port 0 takes a free one."""
    advertise: Address | None = None
    """The address that this process's lease tells, when it is not the one listened on (behind a
    service, or when listening on every interface). None: `listen`, as really bound."""
    dsn: Dsn = Dsn()
    """PostgreSQL 14 or newer, as `postgresql://user@host/database?sslmode=verify-full`. Over a
    network only a verified TLS connection is accepted. A password belongs into the environment
    or a file, never into a flag; it is never shown. Empty: an embedded server of our own."""
    password_file: Path | None = None
    """File with the password for `dsn`, read again for each new connection: so a changed one needs
    no restart. None: what `dsn` and the environment say."""
    database_trust: Literal["dsn", "fleet"] = "dsn"
    """Who vouches for the database. `dsn`: the authorities that `dsn` names by sslrootcert, else
    those of the system. `fleet`: those that vouch for this process's peers, as they are when a
    connection is made; for `midstreamer postgres`. The host in `dsn` must be a name in its
    certificate."""
    directory: Path = Path("var/store")
    """Where the embedded server belongs. As root its data really is below /var/lib/midstreamer,
    because PostgreSQL does not run as root."""
    connections: int = Field(7, ge=4, le=100)
    """Most connections to PostgreSQL: one writes, one keeps leases, one reads learning states. The
    others answer further reads, at most half of them for one peer; more reads wait in line. One
    connection more listens for what other syncs commit."""
    connect_s: float = Field(5.0, gt=0, le=60)
    """Seconds to wait for a connection before saying that PostgreSQL is away."""
    command_s: float = Field(60.0, gt=0, le=3600)
    """Seconds one statement may take; the largest is a first load of 100,000 ticks."""
    batch_rows: int = Field(2000, ge=1, le=1_000_000)
    """Rows after which a transaction takes no further Write. Larger batches carry more a second
    and keep each waiting longer."""
    queue_writes_max: int = Field(1024, ge=1, le=1_000_000)
    """Writes that may wait for the next transaction, at most half of them of one coordinator;
    more are refused as `overloaded`. Coordinators take turns."""
    lease_s: float = Field(3.0, gt=0, le=300)
    """Seconds a member counts as alive after its last sign; it renews three times as often.
    Shorter moves shards sooner away from a dead agent, and also from a slow one."""
    members_max: int = Field(512, ge=1, le=leases.MEMBERS_MAX)
    """Members that may hold a lease at once; another is refused as `overloaded`. The list of them
    goes to each."""
    shard_points: int = Field(2048, ge=64, le=1_000_000)
    """Window positions in one shard. Smaller spreads a short history over more agents."""
    load_points_max: int = Field(131_072, ge=1024, le=frames.FRAME_BYTES_MAX // 20)
    """Most points of one Loaded frame (16 bytes each), of however many series; agents ask again
    for the rest."""
    verdicts_max: int = Field(4096, ge=1, le=8192)
    """Most verdicts told in answer to one Write, the latest; others are to be looked up."""
    feed_keep: int = Field(100_000, ge=1000, le=100_000_000)
    """Changes kept in PostgreSQL. A follower that was away for longer must load again."""
    feed_memory: int = Field(4096, ge=16, le=1_000_000)
    """Changes kept in memory, for followers that are nearly up to date."""
    streams_memory: int = Field(256, ge=1, le=100_000)
    """Learning states kept in memory; others are read again when they learn."""
    series_max: int = Field(quota.SERIES_MAX, ge=1, le=10_000_000)
    """Most series in the store; more are refused as `quota_exceeded`. Each is a shard or more, and
    a line of the catalogue of some 100 bytes that every coordinator keeps."""
    series_per_identity_max: int | None = Field(None, ge=1, le=10_000_000)
    """Most series that one client may make. None: half of `series_max`."""
    streams_max: int = Field(quota.STREAMS_MAX, ge=1, le=1_000_000)
    """Most streams: learning states, one for each specification that a Match was recorded with.
    A state takes 1 to 10 kB as a rule and 1 MiB at most, is never forgotten, and is sent to every
    coordinator that starts: 1,024 of them are 1 GiB at the very worst."""
    streams_per_identity_max: int | None = Field(None, ge=1, le=1_000_000)
    """Most streams that one client may begin. None: half of `streams_max`."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Longest that a stop drains: what waits is committed and followers move to another sync.
    Give the process this long, and a little more, before it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What this process tells about itself."""
    limits: LimitSettings = LimitSettings()
    """Bounds between peers."""
    security: SecuritySettings = SecuritySettings()
    """Certificates of this process and whom it lets in."""

    @model_validator(mode="after")
    def _check_database(self) -> SyncSettings:
        if self.password_file is not None and not self.dsn:
            raise ValueError("password_file is for a server named by dsn, and dsn is empty")
        if self.password_file is not None and self.dsn.has_password:
            raise ValueError("dsn holds a password, and password_file names another: leave one out")
        if self.database_trust == "fleet" and not self.dsn:
            raise ValueError("database_trust is for a server named by dsn, and dsn is empty")
        return self

    @property
    def quotas(self) -> quota.Quotas:
        """The most series and streams there may be."""
        return quota.Quotas(
            self.series_max,
            self.series_per_identity_max,
            self.streams_max,
            self.streams_per_identity_max,
        )
