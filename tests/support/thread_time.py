"""Processor time of one thread, which shows its work and not how busy the machine is."""

import threading
import time


def used_s(thread: threading.Thread) -> float:
    """Return the seconds of processor time that a running thread has used so far."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
