"""The first signal to stop begins the end, the second one is the end.

kopf takes SIGTERM and SIGINT for itself when it begins, and would need seconds to stop by them: so
they are taken back each time.
"""

from __future__ import annotations

import asyncio
import os
import signal

from midstreamer.telemetry import logs

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logs.get(__name__)


class Signals:
    """Who hears the signals of this process."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        """Set by the first signal."""

    def take(self) -> None:
        """From now on they are ours; call it in the main thread, inside its loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._heard, number)

    def release(self) -> None:
        """Give them back to Python."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _heard(self, number: signal.Signals) -> None:
        if self.stop.is_set():
            os._exit(128 + number)
        log.info("process.stopping", signal=number.name)
        self.stop.set()
