"""The places that host names resolve to, for one session; pure.

A name may resolve to several places (``host:port``), each with its own server: the name of a
headless Service has one place for each pod.  A name is resolved before each dial.  When resolving
fails, the places found last stay, and the next attempt waits a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PLACES_MAX = 64
"""Maximum places (``host:port``) of one name that a session dials. If a name has more places, the
session chooses this many at random, and keeps them as long as the name resolves to them."""


@dataclass
class _Name:
    """What is known of one name."""

    places: tuple[str, ...] = ()
    """Places (``host:port``) that the name resolved to last; empty before the first success."""
    failures: int = 0
    """How many times in a row the name could not be resolved."""
    free_s: float = float("-inf")
    """Time before which the name must not be resolved again."""


class Names:
    """What the addresses of one session resolve to, and when to resolve each of them again."""

    def __init__(self, *, pause: Callable[[int], float], dice: Callable[[], float]) -> None:
        """``pause`` returns the seconds to wait after a number of failures in a row; ``dice``
        returns a random number from 0 to 1."""
        self._pause = pause
        self._dice = dice
        self._known: dict[str, _Name] = {}

    def due(self, addresses: Sequence[str], now_s: float) -> list[str]:
        """Return which of ``addresses`` may be resolved now.

        What is known of addresses that are not in ``addresses`` is forgotten.
        """
        self._known = {each: self._known.get(each) or _Name() for each in addresses}
        return [each for each, name in self._known.items() if name.free_s <= now_s]

    def found(self, address: str, places: Sequence[str]) -> None:
        """Record the places (``host:port``) that an address resolved to, at most `PLACES_MAX`."""
        if (name := self._known.get(address)) is None:
            return
        fresh = list(dict.fromkeys(places))
        if len(fresh) > PLACES_MAX:
            before = set(name.places)
            ranked = sorted(fresh, key=lambda each: (each not in before, self._dice()))
            fresh = ranked[:PLACES_MAX]
        name.places = tuple(fresh)
        name.failures, name.free_s = 0, float("-inf")

    def failed(self, address: str, now_s: float) -> None:
        """Record that an address could not be resolved: it is resolved again after a pause."""
        if (name := self._known.get(address)) is not None:
            name.failures += 1
            name.free_s = now_s + self._pause(name.failures)

    @property
    def places(self) -> list[str]:
        """Every ``host:port`` that an address is known to resolve to, each once."""
        return list(dict.fromkeys(p for name in self._known.values() for p in name.places))

    @property
    def free_s(self) -> float:
        """Earliest time at which a name that could not be resolved may be resolved again; infinite
        if there is no such name."""
        waiting = [name.free_s for name in self._known.values() if name.failures]
        return min(waiting, default=float("inf"))
