"""Whether PostgreSQL answers: what this process knows of it, for requests and for probes."""

from __future__ import annotations

from midstreamer.domain.errors import StoreError
from midstreamer.telemetry import logs, metrics

CLASH_S = 0.05
"""A StoreError that asks to be tried again this soon was a clash of transactions."""

log = logs.get(__name__)


class StoreHealth:
    """The last trouble with the store; empty while it answers."""

    def __init__(self) -> None:
        self.trouble = "the store has not been opened yet"
        self.opened = False
        metrics.POSTGRES_UP.set(0)
        """Whether the store has ever answered."""

    def failed(self, error: StoreError) -> None:
        """The store raised this."""
        if is_away(error):
            metrics.POSTGRES_UP.set(0)
        if is_away(error) and error.message != self.trouble:
            self.trouble = error.message
            log.warning("store.away", detail=error.message)

    def answers(self, position: int) -> None:
        """The store answers, or does so again."""
        self.trouble, self.opened = "", True
        metrics.POSTGRES_UP.set(1)
        log.info("store.opened", position=position)


def is_away(error: BaseException) -> bool:
    """Whether it is PostgreSQL that fails, and not one Write that it objects to."""
    return isinstance(error, StoreError) and error.retry_after_s > CLASH_S
