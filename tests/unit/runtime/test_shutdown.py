"""The first signal cancels the main task; a second signal ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from midstreamer.runtime import shutdown


@pytest.mark.parametrize("number", shutdown.SIGNALS)
def test_a_signal_cancels_and_cleaning_up_finishes(number: signal.Signals) -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    before = signal.getsignal(number)
    assert shutdown.run(main()) is number
    assert seen == ["cleaned up"]
    assert signal.getsignal(number) is before


def test_work_that_ends_by_itself_was_not_stopped() -> None:
    async def main() -> None:
        pass

    assert shutdown.run(main()) is None


def test_an_error_gets_out() -> None:
    async def main() -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        shutdown.run(main())


def test_cancelling_from_inside_is_not_mistaken_for_a_signal() -> None:
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        shutdown.run(main())


STUBBORN = """
import asyncio, os, signal
from midstreamer.runtime import shutdown

async def main():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

shutdown.run(main())
"""


def test_a_second_signal_ends_a_process_that_hangs_while_cleaning_up() -> None:
    ended = subprocess.run([sys.executable, "-c", STUBBORN], timeout=60, check=False)
    assert ended.returncode == 128 + signal.SIGINT


async def test_a_clean_up_ends_however_often_its_task_is_cancelled() -> None:
    half_way, rest = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def clean() -> None:
        half_way.set()
        await rest.wait()
        done.append("cleaned up")

    task = asyncio.ensure_future(shutdown.finish(clean()))
    await half_way.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    rest.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["cleaned up"]


async def test_a_clean_up_that_fails_says_so() -> None:
    async def clean() -> None:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        await shutdown.finish(clean())
