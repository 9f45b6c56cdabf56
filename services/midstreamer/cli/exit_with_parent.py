"""Exit with the parent: a child process ends when its launcher is killed.

The launcher sets an environment variable to its process id. The child asks the kernel (Linux,
prctl) for SIGTERM at the death of its parent, and then checks that the parent has not died before
the call.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

VARIABLE = "MIDSTREAMER_PARENT"
"""Environment variable with the process id of the launcher."""
_PR_SET_PDEATHSIG = 1
"""Number of the prctl operation, from linux/prctl.h."""


def follow(environment: Mapping[str, str]) -> None:
    """End this process when its launcher ends.

    The launcher's process id is in the environment variable that `VARIABLE` names. Without this
    environment variable, do nothing.
    """
    named = environment.get(VARIABLE, "")
    if not named.isdecimal():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(named):
        sys.exit(1)
