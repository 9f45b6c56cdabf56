"""Run a small load test with its own fleet, so that the dashboard named "Load test" has data."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from dashboards import built_dashboards
from midstreamer.cli import exit_with_parent
from midstreamer.cli.local_fleet import free_ports
from tests.support.prometheus import Target

USERS, PER_S, RECONNECTS_PER_S = 12, 10.0, 0.5
"""Number of users in the load test; requests and reconnects per second of all users together."""
END_S = 120.0
"""Longest time in seconds that `running` waits at its end for the load test to exit."""


@contextlib.asynccontextmanager
async def running(folder: Path, seconds: float) -> AsyncIterator[Target]:
    """Run a load test for ``seconds`` seconds; yield the target at which Prometheus scrapes it.

    When the block ends, wait until the load test exits. If it takes longer than `END_S`, kill it.
    """
    await asyncio.to_thread(folder.mkdir)
    shape = folder / "shape.json"
    stage = {"seconds": seconds, "begin": PER_S, "end": PER_S}
    content = {"stages": [stage], "users": USERS, "reconnects_per_s": RECONNECTS_PER_S}
    shape.write_text(json.dumps(content), encoding="utf-8")
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    with (folder / "load.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests", "--shape", str(shape), "--agents", "1"),
            *("--metrics", listen),
            cwd=built_dashboards.ROOT,
            env={**os.environ, exit_with_parent.VARIABLE: str(os.getpid())},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Target(listen, "loadtest", "load")
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
