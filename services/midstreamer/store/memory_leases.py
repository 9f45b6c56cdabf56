"""Leases of the store in memory: who holds one, until when, and who was asked to drain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midstreamer.protocol.frames import Member
from midstreamer.store.ports import seen_by_others


class _Lease(NamedTuple):
    member: Member
    expires_s: float


class Leases:
    """The table of members; time is the clock handed in."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._held: dict[str, _Lease] = {}
        self._asked: dict[str, str] = {}
        """Of each member that was asked to drain, the incarnation."""

    def members(self) -> tuple[Member, ...]:
        """Those with a live lease, by name."""
        live = sorted((name, lease) for name, lease in self._held.items() if self._lives(lease))
        return tuple(lease.member for _, lease in live)

    def _lives(self, lease: _Lease) -> bool:
        return lease.expires_s > self._now_s()

    def renew(self, member: Member, lease_s: float) -> bool:
        """Take or renew a lease; whether others must be told."""
        before = self._held.get(member.name)
        old = before.member if before and self._lives(before) else None
        self._held[member.name] = _Lease(member, self._now_s() + lease_s)
        return old is None or seen_by_others(old) != seen_by_others(member)

    def leave(self, name: str) -> bool:
        """Give a lease back; whether there was one."""
        return self._held.pop(name, None) is not None

    def expire(self) -> bool:
        """Remove leases that have run out; whether there were any."""
        gone = [name for name, lease in self._held.items() if not self._lives(lease)]
        for name in gone:
            del self._held[name]
        return bool(gone)

    def extend(self, lease_s: float) -> None:
        """Let every lease run this long from now, or longer."""
        until_s = self._now_s() + lease_s
        for name, one in self._held.items():
            self._held[name] = one._replace(expires_s=max(one.expires_s, until_s))

    def retire(self, name: str) -> Member | None:
        """Ask the present incarnation of a member to drain; None when it has no lease."""
        lease = self._held.get(name)
        if lease is None or not self._lives(lease):
            return None
        self._asked[name] = lease.member.incarnation
        return lease.member

    def asked(self, member: Member) -> bool:
        """Whether this incarnation was asked to drain."""
        return self._asked.get(member.name) == member.incarnation
