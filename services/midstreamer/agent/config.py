"""Settings of an agent, ``[agent]``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from midstreamer.runtime import processors
from midstreamer.runtime.addresses import Addresses
from midstreamer.runtime.config import (
    LimitSettings,
    SecuritySettings,
    Settings,
    TelemetrySettings,
)


class AgentSettings(Settings):
    """A process that holds shards and searches them. It listens nowhere: it dials."""

    section: ClassVar[str] = "agent"

    id: str = "a1"
    """Name of this agent; its certificate is for `agent/<id>`. Two agents never share one."""
    sync: Addresses = ("127.0.0.1:7450",)
    """Where sync listens: one address, or a list of several. The agent takes its lease, the points
    and the change feed from a random one, and changes over when that one drains or is away."""
    engine: str = Field("auto", pattern="^(auto|numba|wasm)$")
    """How windows are compared: `numba`, `wasm`, or `auto` for the faster one here. The results
    are equal to the bit; only speed and memory differ."""
    threads: int = Field(0, ge=0, le=256)
    """Threads that compare windows; 0 takes one for each processor that the agent may use, by its
    affinity and the quota of its cgroup: whole ones, at least one. More than that gains nothing."""
    searches_max: int = Field(128, ge=1, le=4096)
    """Searches accepted at once, those that wait for a thread included, at most half of them of
    one coordinator, whose clients take turns; more are refused as `overloaded` and go to the
    other replica. Larger lets latency grow under load instead."""
    waits_max: int = Field(64, ge=1, le=4096)
    """Searches that wait until the change feed has come to their position; shared and refused in
    the same way, and counted apart."""
    heartbeat_s: float = Field(1.0, gt=0, le=60)
    """Seconds between two reports of what is held, when nothing changes."""
    loads_max: int = Field(4, ge=1, le=64)
    """Requests for points under way at sync at once, each of one long shard or of many short ones.
    More load faster and leave sync less time for writers."""
    load_s: float = Field(30.0, gt=0, le=600)
    """Longest that one part of a shard may take to load before it is asked for again."""
    derived_bytes_max: int = Field(1 << 30, ge=1 << 24, le=1 << 42)
    """Bytes, roughly, of what is derived from the points for the specifications that are asked for,
    over all shards; the ones longest unused are dropped and made again when needed. A point takes
    some 24 for each window length in use, and 32 more for each window on the grid."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Longest that a stop drains: others load its shards while it goes on answering.
    Give the process this long, and a little more, before it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()

    @property
    def threads_used(self) -> int:
        """Threads that compare windows."""
        return self.threads or processors.available()
