"""Build ``dtw.wasm`` from the C sources beside it: ``python -m midstreamer_kernels.wasm.build``.

The compiler is zig's clang from the package ``ziglang``, needed only here; the module itself ships
with the distribution. The same version of the compiler gives the same bytes: no path, time or name
of the machine gets into the module, and a test builds it anew and compares.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "dtw.c"
MODULE = FOLDER / "dtw.wasm"

FLAGS = (
    "-target", "wasm32-freestanding", "-std=c11", "-Wall", "-Wextra", "-Werror",
    "-O3", "-msimd128", "-mbulk-memory",
    "-ffp-contract=off",  # the bits of the numba engine: one rounding for each operation
    "-fno-sanitize=all", "-nostdlib",
    "-Wl,--no-entry", "-Wl,--export-memory", "-Wl,--strip-all", "-Wl,-z,stack-size=65536",
)  # fmt: skip


def build(target: Path) -> None:
    """Compile the module into the file `target`; raise `CalledProcessError` when that fails."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-o", str(target), SOURCE.name]
        subprocess.run(command, cwd=FOLDER, env=environment, check=True)  # noqa: S603 - our own command, no shell


if __name__ == "__main__":
    build(MODULE)
    print(f"{MODULE.name}: {MODULE.stat().st_size:,} B")  # noqa: T201 - a command's answer
