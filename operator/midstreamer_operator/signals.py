"""Handling of SIGTERM and SIGINT: the first signal stops the process cleanly, the second at once.

kopf installs its own handlers for both signals when it starts; with these, a stop takes seconds.
So the operator installs its handlers again after each start of kopf.
"""

from __future__ import annotations

import asyncio
import os
import signal

from midstreamer.telemetry import logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logs.get(__name__)


class Signals:
    """Signal handlers of this process for SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        """Set by the first SIGTERM or SIGINT."""

    def take(self) -> None:
        """Install the handlers; call it in the main thread, inside the running event loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._heard, number)

    def release(self) -> None:
        """Remove the handlers, so that Python's defaults apply again."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _heard(self, number: signal.Signals) -> None:
        """Set `stop` on the first signal; exit the process at once on the second."""
        if self.stop.is_set():
            os._exit(128 + number)
        log.info("process.stopping", signal=number.name)
        self.stop.set()
