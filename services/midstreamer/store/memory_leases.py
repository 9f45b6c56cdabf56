"""The leases of `store.memory`: which members hold one, when it expires, and who must drain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midstreamer.protocol.frames import Member
from midstreamer.store.store_interface import seen_by_others


class _Lease(NamedTuple):
    member: Member
    expires_s: float


class Leases:
    """The table of members with their leases."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """``now_s`` is the clock, in seconds, by which leases expire."""
        self._now_s = now_s
        self._held: dict[str, _Lease] = {}
        self._asked: dict[str, str] = {}
        """For each member that was asked to drain, the incarnation that was asked."""

    def members(self) -> tuple[Member, ...]:
        """Return the members whose lease has not expired, sorted by name."""
        live = sorted((name, lease) for name, lease in self._held.items() if self._lives(lease))
        return tuple(lease.member for _, lease in live)

    def _lives(self, lease: _Lease) -> bool:
        return lease.expires_s > self._now_s()

    def renew(self, member: Member, lease_s: float) -> bool:
        """Take or renew a lease; return whether other members must be told.

        They must be told if the lease is new, or if a field of `seen_by_others` has changed.
        """
        before = self._held.get(member.name)
        old = before.member if before and self._lives(before) else None
        self._held[member.name] = _Lease(member, self._now_s() + lease_s)
        return old is None or seen_by_others(old) != seen_by_others(member)

    def leave(self, name: str) -> bool:
        """Delete a member's lease; return whether there was one."""
        return self._held.pop(name, None) is not None

    def expire(self) -> bool:
        """Remove expired leases; return whether there were any."""
        gone = [name for name, lease in self._held.items() if not self._lives(lease)]
        for name in gone:
            del self._held[name]
        return bool(gone)

    def extend(self, lease_s: float) -> None:
        """Let every lease last at least ``lease_s`` seconds from now."""
        until_s = self._now_s() + lease_s
        for name, lease in self._held.items():
            self._held[name] = lease._replace(expires_s=max(lease.expires_s, until_s))

    def retire(self, name: str) -> Member | None:
        """Mark the present incarnation of a member to be drained, and return the member.

        Return None if the member has no lease.
        """
        lease = self._held.get(name)
        if lease is None or not self._lives(lease):
            return None
        self._asked[name] = lease.member.incarnation
        return lease.member

    def asked(self, member: Member) -> bool:
        """Return whether this incarnation of the member was asked to drain."""
        return self._asked.get(member.name) == member.incarnation
