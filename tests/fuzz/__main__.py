"""`make fuzz`: run every fuzz target on its share of inputs, and report failures.

    python -m tests.fuzz                          ten million inputs in all
    python -m tests.fuzz --share 0.01             a hundredth of them
    python -m tests.fuzz --only codec --only dsn  some targets
    python -m tests.fuzz --replay FILE --only codec

Each target runs in a separate process, two at a time. The exit code is 0 when no input failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import all_targets
from tests.fuzz.worker import FOUND

FOLDER = Path(".cache/fuzz")
INPUTS_MIN = 1000


class Result(NamedTuple):
    """The outcome of one target."""

    name: str
    inputs: int
    seconds: float
    covered: str
    failed: bool
    log: Path


def main() -> int:
    """Run the targets that the command line names; return 1 when an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of ten million inputs")
    parser.add_argument("--only", action="append", choices=sorted(all_targets()))
    parser.add_argument("--seed", type=int, default=1, help="seed of the choice of inputs")
    parser.add_argument("--replay", type=Path, help="run one input and show what it does")
    asked = parser.parse_args()
    if asked.replay is not None:
        if not asked.only or len(asked.only) != 1:
            parser.error("--replay needs one --only TARGET")
        all_targets()[asked.only[0]].run(asked.replay.read_bytes())
        print(f"{asked.only[0]}: {asked.replay} is accepted or refused by name")
        return 0
    return _campaign(asked.only or list(all_targets()), asked.share, asked.seed)


def _campaign(names: list[str], share: float, seed: int) -> int:
    by = "atheris" if importlib.util.find_spec("atheris") else "hypothesis (atheris is missing)"
    print(f"fuzzing {len(names)} targets by {by}, seed {seed}", flush=True)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = []
        for result in pool.map(lambda name: _fuzz(name, share, seed), names):
            print(_line(result), flush=True)
            results.append(result)
    failed = [result for result in results if result.failed]
    print(f"{sum(result.inputs for result in results):,} inputs, {len(failed)} targets failed")
    for result in failed:
        print(f"\n{result.name}: the end of {result.log}\n{_end(result.log)}")
        for path in sorted((FOLDER / result.name / FOUND).glob("*")):
            print(f"replay: python -m tests.fuzz --only {result.name} --replay {path}")
    return 1 if failed else 0


def _fuzz(name: str, share: float, seed: int) -> Result:
    count = max(INPUTS_MIN, int(all_targets()[name].inputs * share))
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str(count), str(folder), str(seed)]
    began = time.monotonic()
    with log.open("wb") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    text = log.read_text(errors="replace")
    done = re.findall(r"number_of_executed_units:\s*(\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    return Result(
        name,
        int(done[-1]) if done else count,
        time.monotonic() - began,
        f"{covered[-1]} branches" if covered else "no coverage",
        code != 0,
        log,
    )


def _line(result: Result) -> str:
    rate = result.inputs / max(result.seconds, 0.001)
    word = "FAILED" if result.failed else "ok"
    return (
        f"{result.name:12} {result.inputs:>10,} inputs  {result.seconds:6.0f} s  {rate:>8,.0f}/s"
        f"  {result.covered:>14}  {word}"
    )


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


if __name__ == "__main__":
    sys.exit(main())
