"""The state folder of a local fleet: everything ``midstreamer run`` keeps, in one place.

    <state>/postgres   the database            <state>/certs   authority, identities, allowlist
    <state>/logs       one file per process    <state>/spool   what coordinators spool

Mode 0700, held by one launcher at a time (a lock on a file, gone with the process).
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
NAME = ".midstreamer"


@dataclass(frozen=True)
class StateFolder:
    """Paths below one state folder."""

    folder: Path

    @property
    def postgres(self) -> Path:
        """The embedded server's directory."""
        return self.folder / "postgres"

    @property
    def certs(self) -> Path:
        """Authority, identities, allowlist."""
        return self.folder / "certs"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.folder / "logs"

    @property
    def spool(self) -> Path:
        """What coordinators spool."""
        return self.folder / "spool"


def where(chosen: Path | None) -> Path:
    """The folder asked for, else ``$MIDSTREAMER_HOME``, else ``.midstreamer`` here."""
    if chosen is None:
        home = os.environ.get(HOME_VARIABLE)
        chosen = Path(home) if home else Path.cwd() / NAME
    return chosen.expanduser().absolute()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[StateFolder]:
    """Make the folder if needed and hold it; ConfigError when another launcher does."""
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
