"""Decide which of several addresses to dial next; pure.

Each address has its own back-off, so a dead address does not delay the others.  A process begins at
a random address, so that a fleet spreads over its servers.  For a while, an address whose server
drains comes after all other addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

AWAY_S = 5.0
"""For this many seconds, the address of a draining server comes after all other addresses."""

Pause = Callable[[int], float]
"""Function that takes the number of failures of an address in a row, and returns the seconds to
wait before that address is dialled again."""


@dataclass
class _Target:
    """What is known of one address."""

    rank: float
    """Random number that orders addresses which are otherwise equally good, the least number
    first."""
    failures: int = 0
    """Failures of the address in a row."""
    free_s: float = float("-inf")
    """Time before which the address must not be dialled."""
    away_s: float = float("-inf")
    """Until this time, the address comes after all other addresses."""


class Targets:
    """What is known of the addresses that one session may dial, and their order."""

    def __init__(self, *, pause: Pause, dice: Callable[[], float]) -> None:
        self._pause = pause
        self._dice = dice
        self._known: dict[str, _Target] = {}

    def order(self, addresses: Sequence[str], now_s: float) -> list[tuple[float, str]]:
        """Return the given addresses, the best first, each as (time, address).

        The address must not be dialled before that time.  What is known of addresses that are not
        in ``addresses`` is forgotten.
        """
        self._known = {
            address: self._known.get(address) or _Target(self._dice()) for address in addresses
        }

        def when(address: str) -> tuple[float, float]:
            target = self._known[address]
            free_s = max(target.free_s, now_s)
            return free_s + (AWAY_S if target.away_s > now_s else 0.0), target.rank

        return [(self._known[address].free_s, address) for address in sorted(addresses, key=when)]

    def failed(self, address: str, now_s: float) -> None:
        """Record a failed dial or a lost link: the address is dialled again after a pause."""
        if (target := self._known.get(address)) is not None:
            target.failures += 1
            target.free_s = now_s + self._pause(target.failures)

    def steady(self, address: str) -> None:
        """Record that a link to the address lived long enough: its failures are forgotten."""
        if (target := self._known.get(address)) is not None:
            target.failures = 0

    def sent_away(self, address: str, now_s: float) -> None:
        """Record that the server at the address drains: for `AWAY_S`, the address comes last."""
        if (target := self._known.get(address)) is not None:
            target.away_s = now_s + AWAY_S
            target.free_s = now_s + self._pause(1)
