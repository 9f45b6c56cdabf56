"""Names what this process compiles of the kernels; as a plugin of pytest it says so at the end.

What comes from a cache is not compiled and does not count.
"""

from __future__ import annotations

import sys
from typing import Any

from numba.core import event


class Compilations(event.Listener):
    """Keeps the names of functions that numba compiles."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event: Any) -> None:
        """Numba begins to compile a function."""
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("midstreamer_kernels."):
            self.names.append(f"{function.__module__}.{function.__name__}")

    def on_end(self, event: Any) -> None:
        """It is done."""


COMPILED = Compilations()
event.register("numba:compile", COMPILED)  # type: ignore[no-untyped-call]


def pytest_sessionfinish() -> None:
    """Say what was compiled while the tests ran."""
    sys.stdout.write(f"\ncompiled: {COMPILED.names}\n")
