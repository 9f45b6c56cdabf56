"""A process that measures calls: it reads a JSON object per line and answers with one per line.

    {"do": "prepare", "call": NAME, "given": [...]}   ->  {"answer": ...}
    {"do": "time", "budget_s": SECONDS}               ->  {"samples_s": [...]}

``prepare`` builds the data of the call, runs the call until it is warm, and returns its answer.
``time`` repeats a prepared call for about ``budget_s`` seconds.  A sample is the time of one call.
If a call takes less than a fifth of a millisecond, several calls in a row are timed together, and
the sample is their mean.  Each call gets a number that rises by one, with which it can select one
of many queries.

This module needs only numpy and the standard library, because it also runs in the Python
environment of the other packages.  `peer.mjs` is the same for node: it reads the same lines.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from benchmarks.kernels.data import Files

SAMPLE_S = 0.0002
"""Shortest duration of a sample in seconds; shorter calls are repeated within a sample."""
WARM_CALLS, WARM_S = 3, 0.5
"""A call counts as warm after this number of calls, or after this number of seconds."""

Call = Callable[[int], Any]


class Worker:
    """Prepares and times the calls that one module defines."""

    def __init__(self, module: ModuleType, files: Files) -> None:
        self.module, self.files = module, files
        self.calls: dict[str, Call] = {}
        self.seconds: dict[str, float] = {}
        self.numbers: dict[str, itertools.count[int]] = {}

    def prepare(self, call: str, given: list[Any]) -> dict[str, Any]:
        """Build a call, warm it up, and return its answer."""
        made: Call = getattr(self.module, call)(self.files, *given)
        key = json.dumps([call, given])
        answer = made(0)  # the first call compiles
        begin, calls = time.perf_counter(), 0
        while calls < WARM_CALLS and time.perf_counter() - begin < WARM_S:
            made(calls)
            calls += 1
        self.calls[key], self.numbers[key] = made, itertools.count()
        self.seconds[key] = (time.perf_counter() - begin) / calls
        return {"answer": answer}

    def time(self, call: str, given: list[Any], budget_s: float) -> dict[str, Any]:
        """Repeat a prepared call for ``budget_s`` seconds; return the samples in seconds."""
        key = json.dumps([call, given])
        made, numbers = self.calls[key], self.numbers[key]
        inner = max(1, round(SAMPLE_S / self.seconds[key]))
        samples: list[float] = []
        gc.collect()
        gc.disable()
        begin = now = time.perf_counter()
        while now - begin < budget_s:
            for _ in range(inner):
                made(next(numbers))
            then, now = now, time.perf_counter()
            samples.append((now - then) / inner)
        gc.enable()
        return {"samples_s": samples}

    def drop(self) -> dict[str, Any]:
        """Free all prepared calls and their data."""
        self.calls.clear()
        gc.collect()
        return {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Handle a request; an exception is returned as an error."""
        what = asked.pop("do")
        try:
            return dict(getattr(self, what)(**asked))
        except Exception as error:  # a failing library is a result, too
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}


def private_stdout() -> TextIO:
    """Return a private copy of stdout; prints of libraries go to stderr instead."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def main() -> None:
    """Answer requests until standard input ends."""
    warnings.simplefilter("ignore")
    out = private_stdout()
    worker = Worker(importlib.import_module(sys.argv[1]), Files(Path(sys.argv[2])))
    for line in sys.stdin:
        out.write(json.dumps(worker.answer(json.loads(line)), default=float) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
