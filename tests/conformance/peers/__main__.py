"""Hold the kernels against other packages: ``make conformance``, one line for each part.

Runs in the environment of requirements/peers.txt, whose numba is older than the product's; so the
kernels' own tests are run there too. Arguments are handed to pytest.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).parents[3]
PARTS = {
    "1-NN counts on public data sets": ["tests/conformance/peers/test_archive.py"],
    "DTW beside other packages": ["tests/conformance/peers/test_pairs.py"],
    "LCSS beside other packages": ["tests/conformance/peers/test_lcss.py"],
    "search beside brute force and other packages": ["tests/conformance/peers/test_search.py"],
    "monitor beside brute force": ["tests/conformance/peers/test_monitor.py"],
    "the kernels' own tests on this older numba": [
        "tests/unit/kernels",
        "tests/conformance/kernels",
    ],
}


def holds(paths: list[str]) -> bool:
    """Run the tests of a part; what they print is shown only when one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(
        [*command, *sys.argv[1:]], cwd=TOP, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stdout.write(f"\n{done.stdout}{done.stderr}")
    else:
        sys.stdout.write(done.stdout.strip().splitlines()[-1])
    return not done.returncode


def main() -> int:
    """Run every part; 1 when any has failed."""
    failed = []
    for number, (name, paths) in enumerate(PARTS.items(), 1):
        sys.stdout.write(f"{number}/{len(PARTS)} {name}: ")
        sys.stdout.flush()
        begin = time.perf_counter()
        if not holds(paths):
            failed.append(name)
        sys.stdout.write(f" ({time.perf_counter() - begin:.0f} s)\n")
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all of it holds\n")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
