"""Settings of ``midstreamer run``: the fleet it starts on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from midstreamer.runtime import config


class RunSettings(config.Settings):
    """How the local fleet is made; what it works on is said by flags."""

    section: ClassVar[str] = "run"

    state_directory: Path | None = None
    """Folder (mode 0700) of database, certificates, logs. None: `.midstreamer` in the working
    folder. Two runs cannot share one at the same time."""
    agents: int = Field(3, ge=1, le=64)
    """Agent processes. Shards have two replicas, so two agents survive the loss of one."""
    engine: Literal["auto", "numba", "wasm"] = "auto"
    """What the agents compare with; `auto` takes the fastest that works here."""
    carrier: Literal["quic", "wss", "quic+wss"] = "quic"
    """By which the processes and this command reach each other: QUIC, WebSocket over TLS, or QUIC
    where it leads and WebSocket where not."""
    ready_s: float = Field(120.0, gt=0, le=3600)
    """Seconds the processes may take to become ready; the first start compiles kernels."""
    stop_s: float = Field(15.0, gt=0, le=600)
    """Seconds a process may take to stop cleanly before it is killed."""
    restarts_max: int = Field(10, ge=0, le=1000)
    """How often one process is started again when it ends on its own, before the run fails."""
    patience_s: float = Field(120.0, gt=0, le=3600)
    """Seconds an append or a match of the replay may take, outages included."""
