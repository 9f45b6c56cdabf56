"""Settings of an agent, in the section ``[agent]`` of the configuration."""

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
    """An agent is a process that holds shards and searches them. It does not listen: it dials sync
    and all coordinators."""

    section: ClassVar[str] = "agent"

    id: str = "a1"
    """Name of this agent; its certificate is for `agent/<id>`. Each agent needs its own name."""
    sync: Addresses = ("127.0.0.1:7450",)
    """Where sync listens: one address or a list of several. The agent gets its lease, the points
    and the change feed from a random one, and connects to another when that one drains or does not
    answer."""
    engine: str = Field("auto", pattern="^(auto|numba|wasm)$")
    """Engine that compares windows: `numba`, `wasm`, or `auto` for the faster one on this machine.
    The results are equal to the bit; only speed and memory differ."""
    threads: int = Field(0, ge=0, le=256)
    """Number of threads that compare windows. 0: one for each processor that the agent may use by
    its affinity and its cgroup quota (rounded down, at least one). More threads gain nothing."""
    searches_max: int = Field(128, ge=1, le=4096)
    """Maximum number of searches accepted at once, including those that wait for a thread. One
    coordinator may have at most half of them. Further searches are refused as `overloaded`, and the
    coordinator asks another replica. A larger value refuses fewer searches, but makes latency grow
    under load."""
    waits_max: int = Field(64, ge=1, le=4096)
    """Maximum number of searches that wait until this agent reaches the feed position that they
    require. One coordinator may have at most half of them. Further searches are refused as
    `overloaded`. These waiting searches do not count towards `searches_max`."""
    heartbeat_s: float = Field(1.0, gt=0, le=60)
    """Seconds between two reports of the held shards to a coordinator while nothing changes."""
    loads_max: int = Field(4, ge=1, le=64)
    """Maximum number of requests for points that this agent has open at sync at once. One request
    loads one long shard or many short ones. A larger value loads shards faster and leaves sync less
    time for writes."""
    load_s: float = Field(30.0, gt=0, le=600)
    """Timeout in seconds of one request for points; after the timeout the request is retried."""
    derived_bytes_max: int = Field(1 << 30, ge=1 << 24, le=1 << 42)
    """Approximate maximum number of bytes of the data derived from points for the specifications in
    use, over all shards. The least recently used data are evicted and derived again when needed.
    For each window length in use, each point takes about 24 bytes. Each window on the grid takes
    about 32 bytes in addition."""
    drain_s: float = Field(30.0, gt=0, le=3600)
    """Timeout of a drain, in seconds. During a drain the agent still answers searches while other
    agents load its shards. Give the process slightly more time than this before it is killed."""
    telemetry: TelemetrySettings = TelemetrySettings()
    security: SecuritySettings = SecuritySettings()
    limits: LimitSettings = LimitSettings()

    @property
    def threads_used(self) -> int:
        """Number of threads that compare windows: ``threads``, or the number of processors."""
        return self.threads or processors.available()
