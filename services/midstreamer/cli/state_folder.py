"""The state folder of a local fleet: all files that ``midstreamer run`` keeps.

    <state>/postgres   the database            <state>/certs   authority, identities, allowlist
    <state>/logs       one file per process    <state>/spool   spools of coordinators

The folder has mode 0700. Only one ``midstreamer run`` at a time may use the folder: it locks a file
in the folder. The lock ends when that process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midstreamer.domain.errors import ConfigError

HOME_VARIABLE = "MIDSTREAMER_HOME"
"""Environment variable that names the state folder."""
FORMER = ".midstreamer"
"""Name of the state folder that earlier versions made in the working folder. If that folder exists,
it is used instead of the default."""


@dataclass(frozen=True)
class StateFolder:
    """Paths in one state folder."""

    folder: Path

    @property
    def postgres(self) -> Path:
        """Folder of the embedded PostgreSQL."""
        return self.folder / "postgres"

    @property
    def certs(self) -> Path:
        """Folder of the authority, the identities and the allowlist."""
        return self.folder / "certs"

    @property
    def logs(self) -> Path:
        """Folder of the logs, one file for each process."""
        return self.folder / "logs"

    @property
    def spool(self) -> Path:
        """Folder of the coordinators' spools."""
        return self.folder / "spool"


def where(chosen: Path | None) -> Path:
    """Return the state folder: the given one, else ``$MIDSTREAMER_HOME``, else the default.

    If the working folder contains a folder `FORMER`, that folder is used instead of the default,
    so that the data of an earlier version are found.
    """
    if chosen is None:
        former = Path.cwd() / FORMER
        home = os.environ.get(HOME_VARIABLE)
        chosen = Path(home) if home else former if former.is_dir() else default()
    return chosen.expanduser().absolute()


def default() -> Path:
    """Return the default state folder: ``$XDG_STATE_HOME/midstreamer``.  Without that variable,
    return ``~/.local/state/midstreamer``."""
    states = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(states).expanduser().absolute() / "midstreamer"


def remark(folder: Path) -> str:
    """Return a note for the user if the state folder is the folder of earlier versions; else "".

    Earlier versions kept their data in the working folder, in a folder named `FORMER`.  The note
    says why this folder is used, and not the default.
    """
    if folder != Path.cwd() / FORMER:
        return ""
    return f"state folder: {folder} (it exists; without it, {default()} is used)"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[StateFolder]:
    """Create the state folder if it is missing, and lock it until the context ends.  Raise
    ConfigError when another ``midstreamer run`` has locked it."""
    state = StateFolder(folder)
    try:
        for each in (folder, state.certs, state.logs, state.spool):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = (folder / "lock").open("w", encoding="ascii")
    except OSError as error:
        raise ConfigError(
            f"state folder {folder}: {error.strerror}; choose another with --state-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"state folder {folder} is in use by another `midstreamer run`: wait for it, or"
                " choose another with --state-dir"
            ) from error
        yield state
