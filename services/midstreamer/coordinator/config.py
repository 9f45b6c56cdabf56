"""Settings of a coordinator, in the section ``[coordinator]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from midstreamer.runtime.addresses import Address, Addresses
from midstreamer.runtime.config import (
    LimitSettings,
    SecuritySettings,
    Settings,
    TelemetrySettings,
)

BATCH_SHARE = 0.75
"""Maximum share of a frame that a batch's payload may take. The rest is for the other fields of the
frame."""


class CoordinatorSettings(Settings):
    """A coordinator is a process that clients and agents connect to. It searches at the agents,
    decides, and sends writes to sync."""

    section: ClassVar[str] = "coordinator"

    id: str = "c1"
    """Name of this coordinator; its certificate is for `coordinator/<id>`."""
    listen: Address = "127.0.0.1:7400"
    """Address at which clients and agents connect. Port 0 takes a free port."""
    advertise: Address | None = None
    """The address that other processes dial, if it differs from `listen`: behind a service, or when
    this process listens on every interface. None: the address that `listen` was bound to."""
    outside_listen: Address | None = None
    """A second address to listen on, for clients outside the network of the fleet (behind a
    NodePort or a LoadBalancer). Clients that connect to it learn only the `outside_advertise`
    addresses of coordinators, never their `advertise` addresses. The bounds of `limits` apply to
    this listener separately. None: no such listener."""
    outside_advertise: Address | None = None
    """The address at which clients outside the network reach this coordinator and no other one. All
    coordinators give this address to the clients that connect to their `outside_listen`. None: such
    clients get no address of this coordinator. Leave it None if all coordinators share one outside
    address."""
    sync: Addresses = ("127.0.0.1:7450",)
    """Where sync listens: one address or a list of several. The coordinator connects to a random
    one, and to another when that one drains or does not answer."""
    requests_max: int = Field(256, ge=1, le=65536)
    """Maximum number of matches under way at once. One client may have at most half of them.
    Further matches wait in line, each until its deadline, and the line has room for as many: with
    256, at most 256 matches are under way and at most 256 wait. The next place goes to the client
    with the fewest matches under way. A match that finds no room in the line is refused as
    `overloaded` and may be retried."""
    waits_max: int = Field(256, ge=1, le=65536)
    """Maximum number of matches that wait for a position of the change feed. One client may have at
    most half of them. Further matches are refused as `overloaded`. These waiting matches do not
    count towards `requests_max`."""
    matches_bytes_max: int = Field(256 * 1024 * 1024, ge=1 << 23, le=1 << 40)
    """Maximum number of bytes of all matches under way or in line. The matches of one client may
    take at most half of these bytes. Each match counts as many bytes as its answer can have, at
    most 3 MB. (Its request is smaller, because the answer repeats the windows.) A match that would
    exceed the limit is refused as `overloaded`."""
    patience_s: float = Field(1.0, gt=0, le=60)
    """Seconds without an answer from an agent after which another agent with the same shards is
    asked too (a hedge). A value below the usual time of a search only adds load; with a value far
    above it, one stalled agent delays answers."""
    ahead_s: float = Field(86_400.0, ge=0, le=1e12)
    """Seconds that the time of a tick may be ahead of this machine's clock; ticks further ahead are
    refused, because they would block all later ticks of their series. 0 allows any time, for data
    with future dates."""
    states_bytes_max: int = Field(64 * 1024 * 1024, ge=1 << 20, le=1 << 36)
    """Maximum number of bytes of cached learning states, as encoded (a decoded state takes several
    times as much). A state is requested from sync when a match first needs it; the least recently
    used states are evicted."""
    outbox_items_max: int = Field(4096, ge=1, le=1_000_000)
    """Maximum number of writes that wait for sync. One client may have at most half of them.
    Further writes are refused as `overloaded`. The next write that is sent is one of the client
    with the fewest bytes sent so far."""
    outbox_bytes_max: int = Field(64 * 1024 * 1024, ge=1 << 20, le=1 << 34)
    """Maximum number of bytes of all writes that wait for sync. The writes of one client may take
    at most half of these bytes. The value bounds the memory that a coordinator needs while sync is
    unreachable."""
    batch_bytes_max: int = Field(2 * 1024 * 1024, ge=4096, le=1 << 26)
    """Maximum payload of one transaction, in bytes. Smaller batches commit sooner, larger batches
    store more per second. The value may be at most 75% of `limits.frame_bytes_max`."""
    spool_dir: Path | None = None
    """Folder for writes that are acknowledged at the level `spooled`, on a volume that outlives the
    process. None: writes that ask for this level are refused."""
    spool_bytes_max: int = Field(256 * 1024 * 1024, ge=1 << 20, le=1 << 40)
    """Maximum number of bytes that the spool may take on disk; writes that exceed it are refused as
    `overloaded`."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Timeout of a drain, in seconds. A drain answers the requests under way and sends the waiting
    writes to sync. Give the process slightly more time than this before it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()

    @model_validator(mode="after")
    def _advertises_what_listens(self) -> Self:
        if self.outside_advertise is not None and self.outside_listen is None:
            raise ValueError(
                f"outside_advertise = {self.outside_advertise} has no effect while outside_listen"
                " is not set: set both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_a_frame(self) -> Self:
        most = int(BATCH_SHARE * self.limits.frame_bytes_max)
        if self.batch_bytes_max > most:
            raise ValueError(
                f"batch_bytes_max = {self.batch_bytes_max:,} is above {most:,}, {BATCH_SHARE:.0%}"
                f" of limits.frame_bytes_max = {self.limits.frame_bytes_max:,}: a batch must fit"
                " into one frame; lower batch_bytes_max or raise limits.frame_bytes_max"
            )
        return self
