"""Run commands on this machine, and wait for what they bring about."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

POLL_S = 0.1
COMMAND_S_MAX = 120.0


T = TypeVar("T")


class KitError(Exception):
    """Something that the person who called the kit can act on; the message says what."""


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path], *, stdin: str = "", timeout_s: float = COMMAND_S_MAX) -> str:
    """Run a command and return what it printed; raises KitError with its complaint."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KitError(f"{' '.join(words[:6])}: {error}") from error
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip()[-800:]
        raise KitError(f"`{' '.join(words)[:300]}` ended with {done.returncode}: {complaint}")
    return done.stdout


def succeeds(command: Sequence[str | Path], *, timeout_s: float = 10.0) -> bool:
    """Whether a command ends with 0 in time."""
    try:
        run(command, timeout_s=timeout_s)
    except KitError:
        return False
    return True


def until(what: str, holds: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait until something holds; raises KitError that names it after `timeout_s`."""
    eventually(what, holds, bool, timeout_s=timeout_s)


def eventually(
    what: str, look: Callable[[], T], holds: Callable[[T], bool], *, timeout_s: float = 30.0
) -> T:
    """Look until what is seen holds, and return it; raises KitError with what was seen last."""
    deadline_s = time.monotonic() + timeout_s
    while not holds(seen := look()):
        if time.monotonic() > deadline_s:
            told = "" if seen is False else f"; seen last: {str(seen)[:500]}"
            raise KitError(f"{what}: not so after {timeout_s:g} s{told}")
        time.sleep(POLL_S)
    return seen


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; says so when it has to be waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
