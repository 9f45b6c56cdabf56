"""The way to the API as the user is logged in: through `kubectl proxy`, on a socket of our own.

Every way to log in that kubectl knows works so, and nothing of it is repeated here.  The socket is
in a folder of mode 0700, because whoever reaches it acts with the user's rights.  What a plugin
asks of the user stands on the terminal: kubectl has our standard input and error.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from midstreamer.cluster.account import Proxied
from midstreamer.cluster.api import Client
from midstreamer.domain.errors import ConfigError, Unavailable

KUBECTL = "kubectl"
START_S = 15.0
END_S = 3.0


@asynccontextmanager
async def api(context: str = "") -> AsyncIterator[Client]:
    """The API of a context of the user's kubeconfig, of the current one when it is empty."""
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
    """The namespace of the context, `default` when it names none; ConfigError without kubectl."""
    words = [*_context(context), "config", "view", "--minify", "-o", "jsonpath={..namespace}"]
    process = await _begun(words)
    async with asyncio.timeout(START_S):
        told, _ = await process.communicate()
    if process.returncode:
        raise ConfigError(
            "kubectl knows no cluster, as it says above: set KUBECONFIG, or give --context"
        )
    return told.decode().strip() or "default"


def _context(context: str) -> list[str]:
    return [f"--context={context}"] if context else []


async def _begun(words: Sequence[str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(KUBECTL, *words, stdout=PIPE)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{KUBECTL} is not on the PATH: install it, this command asks the cluster through it"
        ) from error


async def _served(process: Process) -> None:
    """Wait until the proxy says that it serves."""
    assert process.stdout is not None  # noqa: S101 - it was made with a pipe
    try:
        async with asyncio.timeout(START_S):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise Unavailable(f"`kubectl proxy` does not serve within {START_S:g} s") from error
    if not line:
        raise ConfigError("`kubectl proxy` ended, as it says above: does `kubectl version` work?")


async def _ended(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
