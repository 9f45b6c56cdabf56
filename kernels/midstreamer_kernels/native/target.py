"""What numba compiles for in this process: read once, and the same for shapes, code and cache.

numba takes the name of a processor from its configuration again and again, from the environment
before each compilation; the machine that it generates code for is made once. What is emitted has
the shape of a machine too (see `machine`), so all three must agree: code for vectors of 64 bytes
among arrays laid out for 32 gives wrong answers. So the target is read here, as the package is
imported, and a name that changes later changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from numba.core import config
from numba.core.registry import cpu_target


class Target(NamedTuple):
    """A processor, as numba names it."""

    model: str
    """Of LLVM; empty when numba was not told one, and compiles for this very processor."""
    key: tuple[str, str, str]
    """By which numba tells compiled code apart: triple, model, features."""
    certain: bool
    """False when numba was at work before, and its name may have changed since."""


def _read() -> Target:
    at_work = "_toplevel_target_context" in vars(cpu_target)
    config.reload_config()  # type: ignore[no-untyped-call]  # as numba does before it compiles
    model: str = getattr(config, "CPU_NAME", None) or ""
    key = cpu_target.target_context.codegen().magic_tuple()
    return Target(model, key, certain=not (at_work and model))


TARGET = _read()
