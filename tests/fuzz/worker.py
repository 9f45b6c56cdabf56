"""Fuzzes one target in its own process: `python -m tests.fuzz.worker NAME INPUTS FOLDER SEED`.

atheris chooses inputs by the branches that they reach. Without atheris, which has no wheel for some
Pythons and machines, hypothesis edits the seeds; that finds failures more slowly, but is
deterministic. A failure writes its input to FOLDER/found and ends the process with an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

try:
    import atheris
except ImportError:
    atheris = None

BYTES_MAX = 4096
SECONDS_MAX = 20
"""Maximum time for one input, in seconds; an input that takes longer is a failure."""
MEMORY_MB_MAX = 2048
FOUND = "found"
COMMITTED = Path(__file__).parent / "corpus"

Run = Callable[[bytes], None]


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Generate any bytes, and seeds in which some ranges are replaced, cut or repeated."""
    edit = st.tuples(st.integers(0, BYTES_MAX), st.integers(0, 8), st.binary(max_size=8))
    edited = st.builds(_edited, st.sampled_from(list(seeds)), st.lists(edit, max_size=6))
    return st.one_of(edited, st.binary(max_size=256))


def _edited(seed: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    edited = bytearray(seed)
    for at, length, data in edits:
        start = at % (len(edited) + 1)
        edited[start : start + length] = data
    return bytes(edited)


def examples(
    run: Run, seeds: Sequence[bytes], *, count: int, failed: Callable[[bytes], None]
) -> None:
    """Run a target on ``count`` hypothesis inputs; ``failed`` gets the smallest failing input."""
    last = b""

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs(seeds))
    def each(data: bytes) -> None:
        nonlocal last
        last = data
        run(data)

    try:
        each()
    except BaseException:
        failed(last)
        raise


def main(name: str, count: int, folder: Path, seed: int) -> None:
    """Fuzz a target until ``count`` inputs have run or one has failed."""
    found = folder / FOUND
    found.mkdir(parents=True, exist_ok=True)
    run, seeds = _load(name)

    def keep(data: bytes) -> None:
        (found / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)

    if atheris is None:
        examples(hypothesis.seed(seed)(run), seeds, count=count, failed=keep)
        return
    given = folder / "seeds"
    given.mkdir(exist_ok=True)
    for data in seeds:
        (given / hashlib.sha1(data).hexdigest()).write_bytes(data)
    grown = folder / "grown"
    grown.mkdir(exist_ok=True)
    options = [
        f"-runs={count}",
        f"-seed={seed}",
        f"-max_len={BYTES_MAX}",
        f"-timeout={SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-artifact_prefix={found}{os.sep}",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([name, *options, str(grown), str(given)], run)
    atheris.Fuzz()


def _load(name: str) -> tuple[Run, Sequence[bytes]]:
    """Return a target's function and seeds; atheris, if installed, instruments the code."""
    instrumented: Any = contextlib.nullcontext()
    if atheris is not None:
        instrumented = atheris.instrument_imports(include=["midstreamer", "aioquic", "tests.fuzz"])
    with instrumented:
        from tests.fuzz import targets

        target = targets.all_targets()[name]
    committed = [path.read_bytes() for path in sorted((COMMITTED / name).glob("*"))]
    return target.run, [*target.seeds(), *committed]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
