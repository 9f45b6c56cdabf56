"""Access to the API server as the user of kubectl, through `kubectl proxy` on a Unix socket.

So every login method of kubectl works, without any code for it here.  The socket is in a folder of
mode 0700, because every process that can connect to the socket acts with the user's rights.
kubectl inherits standard input and standard error, so that login plugins can ask the user.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.cluster.api import Client
from midstreamer.cluster.service_account import Proxied
from midstreamer.domain.errors import ConfigError, Unavailable

KUBECTL = "kubectl"
START_S = 15.0
"""Seconds within which kubectl must answer a command, or begin to serve as a proxy."""
END_S = 3.0
"""Seconds that `kubectl proxy` gets to end after SIGTERM, before it is killed."""


@asynccontextmanager
async def api(context: str = "") -> AsyncIterator[Client]:
    """Open a client of the API server of a kubeconfig context, by default of the current one."""
    with tempfile.TemporaryDirectory(prefix="midstreamer-k8s-") as folder:
        place = Path(folder) / "api"
        process = await _begun([*_context(context), "proxy", f"--unix-socket={place}"])
        try:
            await _served(process)
            async with Client(Proxied(place)) as client:
                yield client
        finally:
            await _ended(process)


async def namespace(context: str = "") -> str:
    """Return the namespace of the kubeconfig context, `default` when the context names none.

    Raise ConfigError when kubectl is missing or knows no cluster.
    """
    words = [*_context(context), "config", "view", "--minify", "-o", "jsonpath={..namespace}"]
    process = await _begun(words)
    async with asyncio.timeout(START_S):
        output, _ = await process.communicate()
    if process.returncode:
        raise ConfigError(
            "kubectl finds no cluster, see its message above: set KUBECONFIG, or give --context"
        )
    return output.decode().strip() or "default"


def _context(context: str) -> list[str]:
    return [f"--context={context}"] if context else []


async def _begun(words: Sequence[str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(KUBECTL, *words, stdout=PIPE)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{KUBECTL} is not on the PATH: install it, because this command connects through it"
        ) from error


async def _served(process: Process) -> None:
    """Wait until `kubectl proxy` prints that it serves.

    Raise Unavailable after `START_S`, and ConfigError when the proxy ends.
    """
    assert process.stdout is not None  # noqa: S101 - it was made with a pipe
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise Unavailable(
            f"`kubectl proxy` did not start to serve within {START_S:g} s: try `kubectl version`"
        ) from error
    if not line:
        raise ConfigError(
            "`kubectl proxy` ended, see its message above: does `kubectl version` work?"
        )


async def _ended(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
