"""Records which kernels this process compiles; as a pytest plugin it prints them at the end.

A kernel that is loaded from numba's cache is not compiled and is not recorded.
"""

from __future__ import annotations

import sys
from typing import Any

from numba.core import event


class Compilations(event.Listener):
    """Records the names of the kernel functions that numba compiles."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event: Any) -> None:
        """Record the function that numba begins to compile."""
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("midstreamer_kernels."):
            self.names.append(f"{function.__module__}.{function.__name__}")

    def on_end(self, event: Any) -> None:
        """Do nothing, because `on_start` already recorded the function."""


COMPILED = Compilations()
event.register("numba:compile", COMPILED)  # type: ignore[no-untyped-call]


def pytest_sessionfinish() -> None:
    """Print the names of the kernels that were compiled while the tests ran."""
    sys.stdout.write(f"\ncompiled: {COMPILED.names}\n")
