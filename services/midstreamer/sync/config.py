"""Settings of the sync process: where it listens, where PostgreSQL is, and its limits."""

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
from midstreamer.sync import lease_limits, quota


class SyncSettings(Settings):
    """Settings of sync, the only kind of process that connects to PostgreSQL."""

    section: ClassVar[str] = "sync"

    id: str = "sync-1"
    """Last part of this process's identity, `<kind>/<id>`. The identity must be the one in the
    process's certificate."""
    listen: Address = "127.0.0.1:7450"
    """UDP address to listen on for agents and coordinators. Port 0 takes a free port."""
    advertise: Address | None = None
    """Address of this process that its lease shows to other members. Set it when others cannot
    use `listen`: behind a service, or when listening on every interface. None: the address that
    was really bound."""
    dsn: Dsn = Dsn()
    """PostgreSQL 14 or newer, as `postgresql://user@host/database?sslmode=verify-full`. Over a
    network only a verified TLS connection is accepted. Put a password into the environment or
    into a file, never into a flag; the password is never printed. Empty: sync starts and uses an
    embedded PostgreSQL server."""
    password_file: Path | None = None
    """File with the password for `dsn`. The file is read again for each new connection, so a
    changed password needs no restart. None: the password in `dsn` or in the environment."""
    database_trust: Literal["dsn", "fleet"] = "dsn"
    """Certificate authorities (CAs) that may sign the database server's certificate. `dsn`: the
    CAs in the file that `dsn` names by sslrootcert, else those of the system. `fleet`: the CAs
    that sign the certificates of this process's peers, read anew for each connection; use it with
    `midstreamer postgres`. The host in `dsn` must be a name in the server's certificate."""
    directory: Path = Path("var/store")
    """Directory of the embedded PostgreSQL server. If sync runs as root, the server's data is
    below /var/lib/midstreamer instead, because PostgreSQL does not run as root."""
    connections: int = Field(7, ge=4, le=100)
    """Maximum connections to PostgreSQL: one for commits, one for leases, one for learning states.
    The rest answer other reads, at most half of them for one peer; further reads wait in a queue.
    One more connection, not counted here, listens for the commits of other syncs."""
    connect_s: float = Field(5.0, gt=0, le=60)
    """Seconds to wait for a connection before PostgreSQL counts as unreachable."""
    command_s: float = Field(60.0, gt=0, le=3600)
    """Seconds that one SQL statement may take. The largest statement is a first load of 100,000
    ticks."""
    batch_rows: int = Field(2000, ge=1, le=1_000_000)
    """Rows (ticks and decisions) after which a transaction takes no further Write. Larger batches
    commit more rows per second, and each Write waits longer."""
    queue_writes_max: int = Field(1024, ge=1, le=1_000_000)
    """Writes that may wait for the next transaction, at most half of them from one coordinator.
    Further Writes are refused as `overloaded`. The queue serves coordinators in turn."""
    lease_s: float = Field(3.0, gt=0, le=300)
    """Seconds after which a lease expires unless it is renewed. A member renews its lease three
    times in this period. A shorter lease moves shards away from a dead agent sooner, but also from
    an agent that is only slow."""
    members_max: int = Field(512, ge=1, le=lease_limits.MEMBERS_MAX)
    """Maximum members that may hold a lease at once. A further member is refused as `overloaded`.
    The limit exists because every member receives the list of all members in one frame."""
    shard_points: int = Field(2048, ge=64, le=1_000_000)
    """Window positions in one shard. A smaller value spreads a short history over more agents."""
    load_points_max: int = Field(131_072, ge=1024, le=frames.FRAME_BYTES_MAX // 20)
    """Maximum points in one Loaded frame (16 bytes each), summed over its series. Agents request
    the remaining points in further frames."""
    verdicts_max: int = Field(4096, ge=1, le=8192)
    """Maximum verdicts in the answer to one Write: those with the latest due times. A Lookup
    returns the others."""
    feed_keep: int = Field(100_000, ge=1000, le=100_000_000)
    """Changes of the change feed that PostgreSQL keeps. A follower that is further behind must
    load everything again."""
    feed_memory: int = Field(4096, ge=16, le=1_000_000)
    """Changes of the change feed kept in memory, for followers that are nearly up to date."""
    streams_memory: int = Field(256, ge=1, le=100_000)
    """Learning states cached in memory. A state that is not cached is read from PostgreSQL when
    its stream learns."""
    series_max: int = Field(quota.SERIES_MAX, ge=1, le=10_000_000)
    """Maximum series in the store. A Write that would add more is refused as `quota_exceeded`. Each
    series has at least one shard. It also needs about 100 bytes of memory in every coordinator,
    for the catalogue."""
    series_per_identity_max: int | None = Field(None, ge=1, le=10_000_000)
    """Maximum series that one client may create. None: half of `series_max`."""
    streams_max: int = Field(quota.STREAMS_MAX, ge=1, le=1_000_000)
    """Maximum streams in the store. A stream is one learning state, for one specification of
    recorded Match requests. A state usually takes 1 to 10 kB and at most 1 MiB. It is never deleted
    and is sent to every coordinator that starts, so 1,024 streams are at most 1 GiB."""
    streams_per_identity_max: int | None = Field(None, ge=1, le=1_000_000)
    """Maximum streams that one client may create. None: half of `streams_max`."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Maximum seconds that draining may take at a stop. Meanwhile waiting Writes are committed and
    followers of the feed move to another sync. Give the process a little longer than this before
    it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Logs, metrics and traces of this process."""
    limits: LimitSettings = LimitSettings()
    """Limits on frames and requests between peers."""
    security: SecuritySettings = SecuritySettings()
    """Certificates of this process, and which peers may connect."""

    @model_validator(mode="after")
    def _check_database(self) -> SyncSettings:
        if self.password_file is not None and not self.dsn:
            raise ValueError(
                "password_file is for a server named by dsn, and dsn is empty: set dsn, or leave"
                " password_file out"
            )
        if self.password_file is not None and self.dsn.has_password:
            raise ValueError("dsn holds a password, and password_file is set too: leave one out")
        if self.database_trust == "fleet" and not self.dsn:
            raise ValueError(
                "database_trust is for a server named by dsn, and dsn is empty: set dsn, or leave"
                " database_trust out"
            )
        return self

    @property
    def quotas(self) -> quota.Quotas:
        """Limits on the number of series and streams, in all and for one identity."""
        return quota.Quotas(
            self.series_max,
            self.series_per_identity_max,
            self.streams_max,
            self.streams_per_identity_max,
        )
