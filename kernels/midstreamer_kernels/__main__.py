"""Compile the kernels before they are needed, or list the engines of this machine.

numba compiles each function at its first call and keeps the result on disk, so only the first
process waits. ``warm`` does that compiling now. With ``--searches`` it compiles only what searches
of histories need, in a quarter of the time. ``ahead FOLDER`` compiles for several processor levels,
for a container image that may run on any of them. ``engines`` lists the engines.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from midstreamer_kernels import compile_ahead, compile_calls, engines
from midstreamer_kernels.compile_notice import ANNOUNCER
from midstreamer_kernels.errors import KernelError


def main(arguments: list[str] | None = None) -> None:
    """Run the command in `arguments`; None means the arguments of the command line."""
    given = _parser().parse_args(arguments)
    if given.command == "engines":
        for engine in engines():
            sys.stdout.write(
                f"{engine.name}: {engine.instruction_set}, {engine.lanes} lanes of float32\n"
            )
        return
    if sys.stderr.isatty():
        sys.stderr.write("compiling the kernels, up to a minute the first time ...\n")
    ANNOUNCER.said = True  # the user asked for compiling: do not warn that it is slow
    begin = time.perf_counter()
    if given.command == "ahead":
        try:
            built = compile_ahead.build(given.folder, searches=given.searches)
        except (KernelError, OSError) as error:
            sys.exit(f"midstreamer_kernels ahead: {error}")
        lines = "".join(f"{level}: {each}\n" for level, each in built.items())
        sys.stdout.write(f"{lines}use it with {compile_ahead.VARIABLE}={given.folder.absolute()}\n")
    else:
        compile_calls.warm_searches() if given.searches else compile_calls.warm()
    seconds = time.perf_counter() - begin
    sys.stdout.write(f"kernels are compiled and cached ({seconds:.1f} s)\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m midstreamer_kernels", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("engines", help="list the engines available on this machine")
    warm = commands.add_parser("warm", help="compile for this machine, into numba's cache")
    folder = commands.add_parser("ahead", help="compile for AVX2 and AVX-512, into a folder")
    folder.add_argument("folder", metavar="FOLDER", type=Path, help="created if it is missing")
    for each in (warm, folder):
        each.add_argument("--searches", action="store_true", help="only searches of histories")
    return parser


if __name__ == "__main__":
    main()
