"""Run commands on this machine, and wait until a condition holds."""

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
    """An error that the user of the kit can resolve; the message says what to do."""


def say(text: str) -> None:
    """Print a line of progress to standard output at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path], *, stdin: str = "", timeout_s: float = COMMAND_S_MAX) -> str:
    """Run a command and return its standard output; raises KitError with its error output."""
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
    """Whether a command ends with exit code 0 within `timeout_s`."""
    try:
        run(command, timeout_s=timeout_s)
    except KitError:
        return False
    return True


def until(what: str, holds: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait until `holds` returns true; after `timeout_s`, raise KitError that names `what`."""
    eventually(what, holds, bool, timeout_s=timeout_s)


def eventually(
    what: str, look: Callable[[], T], holds: Callable[[T], bool], *, timeout_s: float = 30.0
) -> T:
    """Call `look` until `holds` is true of the value it returns; return that value.

    After `timeout_s`, raise KitError that names `what` and shows the last value.
    """
    deadline_s = time.monotonic() + timeout_s
    while not holds(seen := look()):
        if time.monotonic() > deadline_s:
            last = "" if seen is False else f"; last seen: {str(seen)[:500]}"
            raise KitError(f"{what}: not true after {timeout_s:g} s{last}")
        time.sleep(POLL_S)
    return seen


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file inside the block; print a line if the lock is not free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another command that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
