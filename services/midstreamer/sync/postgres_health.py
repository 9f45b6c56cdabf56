"""Keeps track of whether PostgreSQL is reachable, for the health probes, the lease and the log."""

from __future__ import annotations

from midstreamer.domain.errors import StoreError
from midstreamer.telemetry import logs, metrics

CLASH_S = 0.05
"""If the retry delay of a StoreError is longer than this, in seconds, PostgreSQL is unreachable. A
StoreError for a conflict of two transactions has at most this delay."""

log = logs.get(__name__)


class StoreHealth:
    """Whether the store can be used, and the last error if it cannot."""

    def __init__(self) -> None:
        self.trouble = "the store has not been opened yet"
        """Why the store cannot be used; empty while it can."""
        self.opened = False
        """Whether the store has ever answered."""
        metrics.POSTGRES_UP.set(0)

    def failed(self, error: StoreError) -> None:
        """Record an error of the store; log it if PostgreSQL is unreachable for a new reason."""
        if is_away(error):
            metrics.POSTGRES_UP.set(0)
        if is_away(error) and error.message != self.trouble:
            self.trouble = error.message
            log.warning("store.away", detail=error.message)

    def answers(self, position: int) -> None:
        """Record that the store works, for the first time or again; log the feed's position."""
        self.trouble, self.opened = "", True
        metrics.POSTGRES_UP.set(1)
        log.info("store.opened", position=position)


def is_away(error: BaseException) -> bool:
    """Return whether the error means that PostgreSQL is unreachable.

    Other errors are caused by a single Write or by a conflict of two transactions.
    """
    return isinstance(error, StoreError) and error.retry_after_s > CLASH_S
