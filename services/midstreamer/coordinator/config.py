"""Settings of a coordinator, ``[coordinator]``."""

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
"""Most of a frame that a batch may take; the rest is for what surrounds its payload."""


class CoordinatorSettings(Settings):
    """A process that clients and agents connect to: it asks agents, decides, and writes."""

    section: ClassVar[str] = "coordinator"

    id: str = "c1"
    """Name of this coordinator; its certificate is for `coordinator/<id>`."""
    listen: Address = "127.0.0.1:7400"
    """Where clients and agents connect. Port 0 takes a free one."""
    advertise: Address | None = None
    """The address agents are told to dial, when it is not the one listened on (behind a
    service, or when listening on every interface). None: `listen`, as really bound."""
    outside_listen: Address | None = None
    """A second place to listen, for clients outside of the network that the fleet shares (behind a
    NodePort or a LoadBalancer). Who comes by it is never told an address of `advertise`. It has
    the bounds of `limits` once more. None: there is none."""
    outside_advertise: Address | None = None
    """The address of this coordinator alone that those are told who come by `outside_listen` of
    any coordinator. None: they are told none, which is right where all share one address."""
    sync: Addresses = ("127.0.0.1:7450",)
    """Where sync listens: one address, or a list of several. It begins at a random one, and changes
    over to another when that one drains or does not answer."""
    requests_max: int = Field(256, ge=1, le=65536)
    """Matches under way at once, at most half of them of one client. As many more wait in line
    until their deadline, the client with the fewest first; what finds no room there is refused as
    `overloaded`, to be asked again."""
    waits_max: int = Field(256, ge=1, le=65536)
    """Matches that wait for a position of the change feed, shared and refused in the same way.
    They hold none of the places above, however long they wait."""
    matches_bytes_max: int = Field(256 * 1024 * 1024, ge=1 << 23, le=1 << 40)
    """Bytes of all matches under way or in line, the larger of question and answer, at most half of
    them of one client; what goes beyond is refused as `overloaded`. A match takes up to 3 MB."""
    patience_s: float = Field(1.0, gt=0, le=60)
    """Silence of an agent after which another that holds the same shards is asked as well. Below
    the usual time of a search it only makes work; far above it a stalled agent is felt."""
    ahead_s: float = Field(86_400.0, ge=0, le=1e12)
    """Seconds that a tick's time may lie beyond this machine's clock; later ones are refused,
    because a series takes no tick older than its last. 0 takes any time, for data dated ahead."""
    states_bytes_max: int = Field(64 * 1024 * 1024, ge=1 << 20, le=1 << 36)
    """Learning states kept, in the bytes they come in (decoded, one takes several times as much).
    A state is asked of sync when a match first needs it; the ones longest unused are forgotten."""
    outbox_items_max: int = Field(4096, ge=1, le=1_000_000)
    """Writes waiting for sync, at most half of them of one client; more are refused as
    `overloaded`. Clients take turns in what is sent."""
    outbox_bytes_max: int = Field(64 * 1024 * 1024, ge=1 << 20, le=1 << 34)
    """The same in bytes: what a coordinator may hold while sync is away."""
    batch_bytes_max: int = Field(2 * 1024 * 1024, ge=4096, le=1 << 26)
    """Payload of one transaction, in bytes. Smaller commits sooner, larger commits more per
    second; it must stay well below `limits.frame_bytes_max`."""
    spool_dir: Path | None = None
    """Folder, on a volume that outlives the process, for writes acknowledged as `spooled`. None:
    that level is refused."""
    spool_bytes_max: int = Field(256 * 1024 * 1024, ge=1 << 20, le=1 << 40)
    """Most that the spool may take on disk; more is refused as `overloaded`."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Longest that a stop drains: what is under way is answered and what waits is written.
    Give the process this long, and a little more, before it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()

    @model_validator(mode="after")
    def _advertises_what_listens(self) -> Self:
        if self.outside_advertise is not None and self.outside_listen is None:
            raise ValueError(
                f"outside_advertise = {self.outside_advertise} leads nowhere while outside_listen"
                " is not set: set both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_a_frame(self) -> Self:
        most = int(BATCH_SHARE * self.limits.frame_bytes_max)
        if self.batch_bytes_max > most:
            raise ValueError(
                f"batch_bytes_max = {self.batch_bytes_max:,} is above {most:,}, {BATCH_SHARE:.0%}"
                f" of limits.frame_bytes_max = {self.limits.frame_bytes_max:,}: a transaction is"
                " one frame; lower the one or raise the other"
            )
        return self
