"""Compare the kernels with other packages: ``make conformance`` prints one line for each part.

The tests run in the environment of requirements/peers.txt, whose numba is older than the product's.
So the kernels' own tests also run there, compiled for this processor and, on x86-64, for processors
with fewer instructions. Arguments are passed to pytest.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[3]
HERE = "tests/conformance/other_packages"
OWN = ("tests/unit/kernels", "tests/conformance/kernels")


class Part(NamedTuple):
    """A group of tests that run together."""

    name: str
    paths: tuple[str, ...]
    model: str = ""
    """The processor model to compile for; empty for this machine's processor."""


def parts() -> Iterator[Part]:
    """Yield all parts of the tests in the order in which they run."""
    yield Part("1-NN counts on public data sets", (f"{HERE}/test_classification.py",))
    yield Part("DTW beside other packages", (f"{HERE}/test_dtw.py",))
    yield Part("LCSS beside other packages", (f"{HERE}/test_lcss.py",))
    yield Part("search beside brute force and other packages", (f"{HERE}/test_search.py",))
    yield Part("monitor beside brute force", (f"{HERE}/test_monitor.py",))
    yield Part("the kernels' own tests on this older numba", OWN)
    if platform.machine() in {"x86_64", "AMD64"}:
        for model in ("x86-64-v2", "x86-64-v3"):
            yield Part(f"the kernels' own tests, compiled for {model}", OWN, model)


def holds(part: Part) -> bool:
    """Run a part's tests and return whether all pass; print all output only when one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *part.paths]
    model = {"NUMBA_CPU_NAME": part.model} if part.model else {}
    done = subprocess.run(
        [*command, *sys.argv[1:]], cwd=TOP, env=os.environ | model, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.stdout.write(f"\n{done.stdout}{done.stderr}")
    else:
        sys.stdout.write(done.stdout.strip().splitlines()[-1])
    return not done.returncode


def main() -> int:
    """Run every part of the tests; return 1 when any part failed."""
    todo, failed = list(parts()), []
    for number, part in enumerate(todo, 1):
        sys.stdout.write(f"{number}/{len(todo)} {part.name}: ")
        sys.stdout.flush()
        begin = time.perf_counter()
        if not holds(part):
            failed.append(part.name)
        sys.stdout.write(f" ({time.perf_counter() - begin:.0f} s)\n")
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all parts passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
