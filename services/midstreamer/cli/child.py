"""Child processes of a local fleet: started, watched, started again, stopped.

Each has its own session, so that Ctrl-C reaches the launcher alone, and its own log file.  A
child that ends on its own is started again after a short pause, at most ``restarts_max`` times;
one that ends before it was ever ready because of what it was told (exit code 2) is not: its own
last error line becomes the run's error.
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

from midstreamer.cli import parent
from midstreamer.domain.errors import ConfigError, Unavailable
from midstreamer.runtime.backoff import Backoff

COMMAND = (sys.executable, "-m", "midstreamer")
BAD_INPUT_EXIT = 2
BACKOFF = Backoff(first_s=0.2, most_s=2.0)
POLL_S = 0.05
PROBE_S = 2.0
LOG_TAIL_BYTES = 16_384
LOG_BYTES_MAX = 16 * 1024 * 1024


@dataclass
class Child:
    """One process of the fleet."""

    name: str
    """What people call it: ``coordinator``, ``agent-2``."""
    verb: str
    """The subcommand it runs."""
    environment: Mapping[str, str]
    health: str
    """``host:port`` of its probes."""
    log: Path
    restarts_max: int
    news: Callable[[str], None]
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    was_ready: bool = False

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process; its output goes to its log."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:
            self.process = process = await asyncio.create_subprocess_exec(
                *COMMAND,
                self.verb,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, parent.VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        return process

    async def ready(self) -> None:
        """Return once nothing that it needs is missing; the caller bounds the time."""
        while not await complete(self.health):  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)
        self.was_ready = True

    async def watch(self) -> None:
        """Start it again whenever it ends; raises when that does not help."""
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
                f"{self.name} ended {_told(status)}; starting it again"
                f" ({self.restarts} of {self.restarts_max})"
            )
            await asyncio.sleep(BACKOFF.after(self.restarts))

    async def stop(self, stop_s: float) -> None:
        """Ask it to stop, and kill it when it takes too long."""
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
        """The last error its log tells of, else its last line."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "no log"
        told = [line.strip() for line in lines if line.strip()]
        errors = [line for line in told if "error[" in line or "[error" in line]
        return (errors or told or ["it said nothing"])[-1]


def _told(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"with exit code {status}"


async def probe(address: str, path: str) -> bool:
    """Whether a probe answers 200."""
    return await _status(address, path) == b"200"


async def complete(address: str) -> bool:
    """Whether a process says that nothing it needs is missing."""
    status = await _status(address, "/completez")
    if status == b"404":  # a version before this one says so at /readyz
        return await probe(address, "/readyz")
    return status == b"200"


async def _status(address: str, path: str) -> bytes:
    """The status that a probe answers with; empty when nobody does."""
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
    except (OSError, TimeoutError, ValueError):  # ValueError: a line beyond the reader's bound
        return b""
