"""Child processes of a local fleet: start, watch, restart and stop them.

Each child has its own log file. It also has its own session, so that Ctrl-C reaches the launcher
only. A child that exits is restarted after a short pause, at most ``restarts_max`` times. A
child that exits with code 2 (bad input) before it was ever ready is not restarted, because its
configuration is wrong: the last error in its log becomes the error of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from midstreamer.cli import exit_with_parent
from midstreamer.domain.errors import ConfigError, Unavailable
from midstreamer.runtime.backoff import Backoff

COMMAND = (sys.executable, "-m", "midstreamer")
"""Command that starts a child; the subcommand follows."""
BAD_INPUT_EXIT = 2
"""Exit code of a process that was given wrong input or settings."""
BACKOFF = Backoff(first_s=0.2, most_s=2.0)
"""Pauses before restarts."""
POLL_S = 0.05
"""Seconds between two probes of a starting child."""
PROBE_S = 2.0
"""Maximum seconds that one probe may take."""
LOG_TAIL_BYTES = 16_384
"""Bytes at the end of a log that are searched for an error."""
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log larger than this is renamed to ``.log.old`` when the child starts."""


@dataclass
class Child:
    """One process of the local fleet."""

    name: str
    """Name of the child in messages, and name of its log file: ``coordinator``, ``agent-2``."""
    verb: str
    """Subcommand of ``midstreamer`` that the child runs."""
    environment: Mapping[str, str]
    """Environment variables added to those of the launcher."""
    health: str
    """``host:port`` at which the child answers probes."""
    log: Path
    """File for the child's output."""
    restarts_max: int
    """Maximum restarts before the run fails."""
    news: Callable[[str], None]
    """Function that is called with each line of news for the user."""
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    was_ready: bool = False

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process, with its output in its log."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:
            self.process = process = await asyncio.create_subprocess_exec(
                *COMMAND,
                self.verb,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, exit_with_parent.VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        return process

    async def ready(self) -> None:
        """Wait until the child reports that it is complete. The caller sets the timeout."""
        while not await complete(self.health):  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        self.was_ready = True

    async def watch(self) -> None:
        """Start the child, and restart it whenever it exits.

        Raise ConfigError when the child rejects its settings, and Unavailable when it has exited
        more than ``restarts_max`` times.
        """
        while True:
            status = await (await self.start()).wait()
            if not self.was_ready and status == BAD_INPUT_EXIT:
                raise ConfigError(f"{self.name}: {self.last_words()}")
            self.restarts += 1
            if self.restarts > self.restarts_max:
                raise Unavailable(
                    f"{self.name} ended {self.restarts} times, the last time {_told(status)}:"
                    f" {self.last_words()}; see {self.log}"
                )
            self.news(
                f"{self.name} ended {_told(status)}; restarting it"
                f" ({self.restarts} of {self.restarts_max})"
            )
            await asyncio.sleep(BACKOFF.after(self.restarts))

    async def stop(self, stop_s: float) -> None:
        """Terminate the child, and kill it when it does not exit within ``stop_s`` seconds."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(stop_s):
                await process.wait()
        except TimeoutError:
            self.news(f"{self.name} did not stop within {stop_s:g} s; killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def last_words(self) -> str:
        """Return the last error in the child's log, else the last line of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "no log"
        texts = [line.strip() for line in lines if line.strip()]
        errors = [line for line in texts if "error[" in line or "[error" in line]
        return (errors or texts or ["its log is empty"])[-1]


def _told(status: int) -> str:
    """Return an exit status as text."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"with exit code {status}"


async def probe(address: str, path: str) -> bool:
    """Return whether a probe answers 200."""
    return await _status(address, path) == b"200"


async def complete(address: str) -> bool:
    """Return whether a process reports that it is complete."""
    status = await _status(address, "/completez")
    if status == b"404":  # the process runs the previous version, which has no /completez
        return await probe(address, "/readyz")
    return status == b"200"


async def _status(address: str, path: str) -> bytes:
    """Return the HTTP status of a probe; empty when there is no answer."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                words = (await reader.readline()).split(b" ")
                return words[1] if len(words) > 1 else b""
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):  # ValueError: the line exceeds the reader's limit
        return b""
