"""Election of the leader by one Lease that all replicas read and write; pure, the time is given.

    standby ──lease has no holder, or was not renewed for its duration: take it──▶ leader
       ▲                                                                              │
       └── another replica holds the lease, or no renewal for `renew_within_s` ◀──────┘

Clocks of two machines are never compared.  Each replica measures with its own monotonic clock how
long the record of the lease has not changed.  When this is as long as the lease's duration, the
lease is free.  A leader that cannot renew the lease stops earlier, after `renew_within_s`.  So
there is never more than one leader, as long as stopping takes less than `lease_s` -
`renew_within_s`.
"""

from __future__ import annotations

from enum import StrEnum

from midstreamer_operator.resources.leases import Record


class Move(StrEnum):
    """What a replica should do after it has read the lease."""

    CREATE = "create"
    """Create the lease, because it does not exist."""
    TAKE = "take"
    """Take the lease over, because it was released or has expired."""
    RENEW = "renew"
    """Renew the lease, because this replica holds it."""
    WAIT = "wait"
    """Wait, because another replica holds the lease."""


class Election:
    """What one replica knows of the lease, and whether the replica leads."""

    def __init__(self, me: str, *, lease_s: float, renew_within_s: float) -> None:
        """Store the arguments; the replica does not lead yet.

        ``me`` is the name of the replica, made of the pod's name and uid, so that a restarted
        container keeps its lease.  A lease that is not renewed expires after ``lease_s`` seconds.
        A leader must renew it within ``renew_within_s`` seconds, or it stops leading.
        """
        assert renew_within_s < lease_s  # noqa: S101 - the settings check it
        self.me = me
        self.lease_s = lease_s
        self._renew_within_s = renew_within_s
        self._seen: Record | None = None
        self._seen_s = 0.0
        self._renewed_s: float | None = None

    @property
    def holder(self) -> str:
        """Name of the holder in the last record read; empty when the lease has no holder."""
        return self._seen.holder if self._seen else ""

    def read(self, record: Record | None, now_s: float) -> Move:
        """Return what to do after the lease was read; ``record`` is None when it does not exist."""
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
        """Note that this replica wrote the lease.

        ``asked_s`` is the time at which the replica began to read the lease before it wrote.  The
        renewal counts from this time, so that the replica stops leading before the lease expires.
        """
        self._renewed_s = asked_s

    def lost(self) -> None:
        """Note that this replica does not hold the lease any more."""
        self._renewed_s = None

    def leads(self, now_s: float) -> bool:
        """Return whether this replica leads: its last renewal is younger than `renew_within_s`."""
        return self._renewed_s is not None and now_s - self._renewed_s < self._renew_within_s
