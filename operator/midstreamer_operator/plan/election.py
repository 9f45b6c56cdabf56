"""Who leads: one lease, read and written by all replicas; a core, no clock.

    standby ──nobody holds it, or its holder is silent for a whole lease──▶ TAKE, written, leads
       ▲                                                                                     │
       └── another holds it, or it could not be renewed for `renew_within_s` ◀───────────────┘

The clock of another machine is never compared.  A lease is free when its record has not changed for
its whole duration, as our own monotonic clock says.  A leader that cannot renew stops before that:
so there is never more than one, as long as stopping takes less than the difference.
"""

from __future__ import annotations

from enum import StrEnum

from midstreamer_operator.resources.leases import Record


class Move(StrEnum):
    """What to do about the lease that was read."""

    CREATE = "create"
    """There is none."""
    TAKE = "take"
    """Nobody holds it any more."""
    RENEW = "renew"
    """It is ours."""
    WAIT = "wait"
    """Another one's."""


class Election:
    """What one replica knows of the lease."""

    def __init__(self, me: str, *, lease_s: float, renew_within_s: float) -> None:
        """``me`` is the pod and its uid: a restarted container goes on with its own lease."""
        assert renew_within_s < lease_s  # noqa: S101 - the settings see to it
        self.me = me
        self.lease_s = lease_s
        self._renew_within_s = renew_within_s
        self._seen: Record | None = None
        self._seen_s = 0.0
        self._renewed_s: float | None = None

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty when nobody does."""
        return self._seen.holder if self._seen else ""

    def read(self, record: Record | None, now_s: float) -> Move:
        """This stands in the lease, and None means that there is none: what to do."""
        if record != self._seen:
            self._seen, self._seen_s = record, now_s
        if record is None:
            return Move.CREATE
        if record.holder == self.me:
            return Move.RENEW
        self._renewed_s = None
        is_free = not record.holder or now_s - self._seen_s >= (record.lease_s or self.lease_s)
        return Move.TAKE if is_free else Move.WAIT

    def written(self, asked_s: float) -> None:
        """The lease was written in our name; it was begun to be at ``asked_s``."""
        self._renewed_s = asked_s

    def lost(self) -> None:
        """It is not ours any more: another was faster, or it was given back."""
        self._renewed_s = None

    def leads(self, now_s: float) -> bool:
        """Whether this replica may act."""
        return self._renewed_s is not None and now_s - self._renewed_s < self._renew_within_s
