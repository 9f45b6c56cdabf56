"""Build ``dtw.wasm`` from its sources: ``python -m midstreamer_kernels.wasm.build``.

The inner loops are emitted by `emit` and compiled by llvmlite. The rest is the C code in this
folder, compiled and linked by zig's clang from the package ``ziglang``. Both compilers are needed
only for this build, because the module is part of the distribution. The same versions of the
compilers give the same bytes: the module contains no path, time or machine name. A test builds the
module again and compares it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from midstreamer_kernels.wasm import object_file

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "dtw.c"
MODULE = FOLDER / "dtw.wasm"

COMPILE = (
    "cc", "-c", "-target", "wasm32-freestanding", "-std=c11", "-Wall", "-Wextra", "-Werror",
    "-O3", "-msimd128", "-mbulk-memory",
    "-ffp-contract=off",  # one rounding per operation, for the same bits as the numba engine
    "-fno-sanitize=all",
)  # fmt: skip
LINK = (
    "wasm-ld", "--no-entry", "--export-memory", "--strip-all", "--gc-sections",
    "-z", "stack-size=65536",
)  # fmt: skip


def build(target: Path) -> None:
    """Compile and link the module into the file `target`.

    Raises `subprocess.CalledProcessError` if a compiler fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        emitted, compiled = folder / "strips.o", folder / "dtw.o"
        emitted.write_bytes(object_file.object_file())
        _zig(folder, *COMPILE, "-o", str(compiled), SOURCE.name)
        _zig(folder, *LINK, "-o", str(target.absolute()), str(compiled), str(emitted))


def _zig(cache: Path, *command: str) -> None:
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(cache),
        "ZIG_LOCAL_CACHE_DIR": str(cache),
    }
    subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-m", "ziglang", *command], cwd=FOLDER, env=environment, check=True
    )


if __name__ == "__main__":
    build(MODULE)
    print(f"{MODULE.name}: {MODULE.stat().st_size:,} B")  # noqa: T201 - a command's answer
