"""Decide which carrier of an address to try while a link by another carrier is open; pure.

An address may name several carriers, the best first.  When packets from the peer are overdue on the
present link, the other carriers are tried at once.  The network may have begun to drop UDP, and
requests under way should not wait until the link counts as lost.  A link by a carrier other than
the best is replaced as soon as the best carrier works again; that is tried from time to time.
"""

from __future__ import annotations

from collections.abc import Callable

from midstreamer.runtime.backoff import Backoff
from midstreamer.transport import address as addresses
from midstreamer.transport.address import Scheme

BACK = Backoff(first_s=5.0, most_s=60.0)
"""Pauses between two attempts to return to the best carrier."""
AGAIN_S = 1.0
"""Seconds between two attempts to replace a link on which nothing comes from the peer."""


class Ways:
    """Decides for one session when to try another carrier than that of the present link."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._failures = 0
        self._back_s = float("-inf")
        self._leave_s = float("-inf")

    def several(self, address: str) -> bool:
        """Return whether an address names more than one carrier."""
        return "+" in address.partition("://")[0] and "://" in address

    def opened(self, now_s: float) -> None:
        """Record that a new link was opened."""
        self._failures = 0
        self._leave_s = now_s
        self._back_s = now_s + BACK.after(1, dice=self._dice())

    def wanted(self, address: str, scheme: Scheme, *, silent: bool, now_s: float) -> list[str]:
        """Return the addresses to dial now, although a link over the carrier ``scheme`` is open.

        Each returned address names one carrier that may serve better than ``scheme``.  ``silent``
        says that a packet from the peer is overdue on the open link.
        """
        if not self.several(address):
            return []
        ways = addresses.parse(address)
        others = [way for way, each in zip(ways.ways, ways.schemes, strict=True) if each != scheme]
        if silent:
            return others if now_s >= self._leave_s else []
        return others[:1] if scheme != ways.schemes[0] and now_s >= self._back_s else []

    def failed(self, now_s: float) -> None:
        """Record that no other carrier answered: the next attempts come only after a pause."""
        self._failures += 1
        self._leave_s = now_s + AGAIN_S
        self._back_s = now_s + BACK.after(self._failures, dice=self._dice())
