"""Programs that a test starts: their output goes to a log, and they end with the test."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

END_S = 30.0
LINES = 3


async def start(
    *words: str | Path,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    anew: bool = False,
) -> Process:
    """Start a program; append its output to the log, or replace the log when ``anew`` is set."""
    with log.open("wb" if anew else "ab") as output:
        return await asyncio.create_subprocess_exec(
            *words, cwd=cwd, env=env, stdin=DEVNULL, stdout=output, stderr=output
        )


async def end(
    process: Process, how: signal.Signals = signal.SIGTERM, *, within_s: float = END_S
) -> None:
    """Send a signal, wait for the program to end, and kill it after ``within_s`` seconds."""
    if process.returncode is None:
        process.send_signal(how)
        try:
            async with asyncio.timeout(within_s):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()


@asynccontextmanager
async def running(*words: str | Path, log: Path) -> AsyncIterator[Process]:
    """A running program with its own log; the program is ended when the block ends."""
    process = await start(*words, log=log, anew=True)
    try:
        yield process
    finally:
        await end(process)


def last_words(log: Path, *, having: str = "") -> str:
    """Return the last `LINES` lines of a log, joined to one line.

    If some lines contain ``having``, choose only among those.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    chosen = [line for line in lines if having in line] or lines
    return " | ".join(chosen[-LINES:]) or "the log is empty"
