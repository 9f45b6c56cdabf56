"""Processes that do the measurements, one at a time; they are killed when the run ends.

Our kernels, the other Python packages and JavaScript each have a process for the whole run.  While
one works, the others wait for a line on standard input.  If the system allows it, all are pinned to
the last processor.  Environment variables limit each of them to one thread.  The main process only
waits, and may use the other processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TOP = Path(__file__).parents[2]
ANSWER_S_MAX = 900
"""Timeout of a measurement in seconds; a process without an answer for so long is taken as hung."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class ChildError(Exception):
    """A process did not answer, or answered with an error."""


class Child:
    """One process that answers lines of JSON, as `benchmarks.kernels.worker` defines them."""

    def __init__(self, command: Sequence[str | Path], *, processors: set[int]) -> None:
        self._noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [str(part) for part in command], cwd=TOP, env=environment(), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._noise,
            start_new_session=True,  # Ctrl-C does not reach the child
        )  # fmt: skip
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, processors)

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Send a request as a line and return the answer; raise ChildError if it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ChildError(self._last_words()) from None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            if not ready.select(ANSWER_S_MAX):
                raise ChildError(f"no answer in {ANSWER_S_MAX} s")
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return dict(answer)

    def _last_words(self) -> str:
        self._noise.seek(0)
        lines = self._noise.read().strip().splitlines()
        return lines[-1] if lines else "the process ended without an error message"

    def close(self) -> None:
        """Kill the process and free its files."""
        self._process.kill()
        self._process.communicate()
        self._noise.close()


def environment() -> Mapping[str, str]:
    """Return the environment variables of the processes, which limit them to one thread."""
    path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    return os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": path}


def processors() -> list[int]:
    """Return the numbers of the processors that this process is allowed to use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Children:
    """The measuring processes by name; each is started at its first use."""

    def __init__(self, commands: Mapping[str, Sequence[str | Path]]) -> None:
        self._commands = commands
        self._stack = contextlib.ExitStack()
        self._running: dict[str, Child] = {}

    def __getitem__(self, where: str) -> Child:
        if where not in self._running:
            allowed = processors() if where == "ours, all processors" else processors()[-1:]
            child = Child(self._commands[where], processors=set(allowed))
            self._stack.callback(child.close)
            self._running[where] = child
        return self._running[where]

    def drop(self) -> None:
        """Tell each process to delete its prepared calls, so that their memory is released."""
        for child in self._running.values():
            child.ask(do="drop")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stack.close()


def commands(data: Path, peers: Path, node: Path, npm: Path) -> dict[str, list[str | Path]]:
    """Return the command line of each process by its name."""
    worker = ["-m", "benchmarks.kernels.worker"]
    ours: list[str | Path] = [sys.executable, *worker, "benchmarks.kernels.ours", data]
    growth: list[str | Path] = [sys.executable, *worker, "benchmarks.kernels.growth", data]
    module = TOP / "kernels/midstreamer_kernels/wasm/dtw.wasm"
    return {
        "ours": ours,
        "ours, all processors": growth,
        "peers": [peers / "bin/python", *worker, "benchmarks.kernels.peers", data],
        "javascript": [node, Path(__file__).with_name("peer.mjs"), data, module, npm],
    }
