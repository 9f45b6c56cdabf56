"""Ending with the parent: a child of a killed launcher must not live on.

The launcher names itself in the environment; the child asks the kernel (Linux, prctl) for
SIGTERM at the parent's death and then checks that it has not died already.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

VARIABLE = "MIDSTREAMER_PARENT"
_PR_SET_PDEATHSIG = 1


def follow(environment: Mapping[str, str]) -> None:
    """End when the parent named in the environment does; nothing when none is named."""
    named = environment.get(VARIABLE, "")
    if not named.isdecimal():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(named):
        sys.exit(1)
