"""Which of several addresses to dial next: pure.

Each address has a back-off of its own, so a dead one costs the others nothing.  A process begins
at a random one, so that a fleet spreads over its servers.  An address that sent us away, because
it drains, comes after the others for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

AWAY_S = 5.0
"""So much later than another is one dialled that sent us away."""

Pause = Callable[[int], float]
"""Seconds to wait after so many failures in a row."""


@dataclass
class _Target:
    rank: float
    """By chance: which of two that are equally good comes first."""
    failures: int = 0
    free_s: float = float("-inf")
    """Not to be dialled before."""
    away_s: float = float("-inf")
    """It comes after the others until then."""


class Targets:
    """What is known of the addresses that one session may dial."""

    def __init__(self, *, pause: Pause, dice: Callable[[], float]) -> None:
        self._pause = pause
        self._dice = dice
        self._known: dict[str, _Target] = {}

    def order(self, addresses: Sequence[str], now_s: float) -> list[tuple[float, str]]:
        """The addresses, the best first, each with the time from which it may be dialled."""
        self._known = {
            address: self._known.get(address) or _Target(self._dice()) for address in addresses
        }

        def when(address: str) -> tuple[float, float]:
            target = self._known[address]
            free_s = max(target.free_s, now_s)
            return free_s + (AWAY_S if target.away_s > now_s else 0.0), target.rank

        return [(self._known[address].free_s, address) for address in sorted(addresses, key=when)]

    def failed(self, address: str, now_s: float) -> None:
        """A dial failed, or a link ended by itself: the next is dialled after a pause."""
        if (target := self._known.get(address)) is not None:
            target.failures += 1
            target.free_s = now_s + self._pause(target.failures)

    def steady(self, address: str) -> None:
        """A link to it lived for long enough: its failures are forgotten."""
        if (target := self._known.get(address)) is not None:
            target.failures = 0

    def sent_away(self, address: str, now_s: float) -> None:
        """It drains."""
        if (target := self._known.get(address)) is not None:
            target.away_s = now_s + AWAY_S
            target.free_s = now_s + self._pause(1)
