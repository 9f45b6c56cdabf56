"""A process that measures calls: one JSON object a line asks, one answers.

    {"do": "prepare", "call": NAME, "given": [...]}   ->  {"answer": ...}
    {"do": "time", "budget_s": SECONDS}               ->  {"samples_s": [...]}

`prepare` builds what the call needs, calls it until it is warm, and says what it answered; `time`
calls what was prepared last under a name, again and again, for about as long as it is told. A
sample is the mean of so many calls as take a fifth of a millisecond, or one that takes longer. A
call is handed a number that rises by one, for those that go through many queries.

Written with nothing but numpy and the standard library, since it also runs in the peers'
environment; `peer.mjs` speaks the same lines.
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
WARM_CALLS, WARM_S = 3, 0.5

Call = Callable[[int], Any]


class Worker:
    """The calls of one module, prepared and timed."""

    def __init__(self, module: ModuleType, files: Files) -> None:
        self.module, self.files = module, files
        self.calls: dict[str, Call] = {}
        self.seconds: dict[str, float] = {}
        self.numbers: dict[str, itertools.count[int]] = {}

    def prepare(self, call: str, given: list[Any]) -> dict[str, Any]:
        """Build and warm up a call."""
        made: Call = getattr(self.module, call)(self.files, *given)
        key = json.dumps([call, given])
        answer = made(0)  # compiles, where something is compiled
        begin, calls = time.perf_counter(), 0
        while calls < WARM_CALLS and time.perf_counter() - begin < WARM_S:
            made(calls)
            calls += 1
        self.calls[key], self.numbers[key] = made, itertools.count()
        self.seconds[key] = (time.perf_counter() - begin) / calls
        return {"answer": answer}

    def time(self, call: str, given: list[Any], budget_s: float) -> dict[str, Any]:
        """Call what was prepared until the time is used up; at least once."""
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
        """Forget every call, and what it holds."""
        self.calls.clear()
        gc.collect()
        return {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks; what fails is an answer too."""
        what = asked.pop("do")
        try:
            return dict(getattr(self, what)(**asked))
        except Exception as error:  # what a library cannot do is a finding
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}


def private_stdout() -> TextIO:
    """Our own way out; whatever libraries print goes to stderr instead."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def main() -> None:
    """Answer line by line until there are no more."""
    warnings.simplefilter("ignore")
    out = private_stdout()
    worker = Worker(importlib.import_module(sys.argv[1]), Files(Path(sys.argv[2])))
    for line in sys.stdin:
        out.write(json.dumps(worker.answer(json.loads(line)), default=float) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
