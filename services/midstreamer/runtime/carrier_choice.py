"""Which carrier of an address to dial beside the present link: pure.

An address may name several carriers, the best first.  When the peer falls silent on one, the
others are tried at once, long before the link counts as lost: a network may have begun to drop
UDP, and requests under way would wait.  A link by another carrier than the best is replaced as
soon as the best answers again; it is asked now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from midstreamer.runtime.backoff import Backoff
from midstreamer.transport import address as addresses
from midstreamer.transport.address import Scheme

BACK = Backoff(first_s=5.0, most_s=60.0)
"""Between two attempts to come back to the best carrier."""
AGAIN_S = 1.0
"""Between two attempts to leave a carrier on which the peer is silent."""


class Ways:
    """What one session has tried beside its present link."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._failures = 0
        self._back_s = float("-inf")
        self._leave_s = float("-inf")

    def several(self, address: str) -> bool:
        """Whether an address names more than one carrier."""
        return "+" in address.partition("://")[0] and "://" in address

    def opened(self, now_s: float) -> None:
        """There is a new link."""
        self._failures = 0
        self._leave_s = now_s
        self._back_s = now_s + BACK.after(1, dice=self._dice())

    def wanted(self, address: str, scheme: Scheme, *, silent: bool, now_s: float) -> list[str]:
        """Addresses, one carrier each, to dial beside a link that came by ``scheme``.

        ``silent``: the peer should have been heard on it, and was not.
        """
        if not self.several(address):
            return []
        ways = addresses.parse(address)
        others = [way for way, each in zip(ways.ways, ways.schemes, strict=True) if each != scheme]
        if silent:
            return others if now_s >= self._leave_s else []
        return others[:1] if scheme != ways.schemes[0] and now_s >= self._back_s else []

    def failed(self, now_s: float) -> None:
        """None of them answered."""
        self._failures += 1
        self._leave_s = now_s + AGAIN_S
        self._back_s = now_s + BACK.after(self._failures, dice=self._dice())
