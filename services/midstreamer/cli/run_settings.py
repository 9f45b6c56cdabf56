"""Settings of ``midstreamer run``, which starts a fleet on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from midstreamer.runtime import config


class RunSettings(config.Settings):
    """How the local fleet is started. The data of a run are chosen by flags."""

    section: ClassVar[str] = "run"

    state_directory: Path | None = None
    """Folder (mode 0700) of database, certificates and logs. None: `$MIDSTREAMER_HOME` if this
    variable is set, else `.midstreamer` in the working folder if this folder exists, else
    `$XDG_STATE_HOME/midstreamer`. If `XDG_STATE_HOME` is not set, its default is `~/.local/state`.
    Two runs cannot use one folder at the same time."""
    agents: int = Field(3, ge=1, le=64)
    """Number of agent processes. Each shard has two replicas, so one agent can be lost."""
    engine: Literal["auto", "numba", "wasm"] = "auto"
    """Engine of the agents for computing distances; `auto` takes the fastest that works here."""
    carrier: Literal["quic", "wss", "quic+wss"] = "quic"
    """Carrier between the processes and this command: QUIC, WebSocket over TLS, or QUIC with
    WebSocket as the fallback."""
    ready_s: float = Field(120.0, gt=0, le=3600)
    """Maximum seconds until all processes are ready; the first start compiles kernels."""
    stop_s: float = Field(15.0, gt=0, le=600)
    """Maximum seconds for a process to stop before it is killed."""
    restarts_max: int = Field(10, ge=0, le=1000)
    """Maximum restarts of one process that exits on its own; the next exit fails the run."""
    patience_s: float = Field(120.0, gt=0, le=3600)
    """Maximum seconds for one append or match of the replay, outages included."""
