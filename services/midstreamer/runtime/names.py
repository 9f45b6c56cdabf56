"""What names lead to, for one session: pure.

A name may stand for several places, each with a server of its own: that of a headless Service has
one for each pod.  It is looked up before each dial.  A look-up that fails leaves what was found
last, and the next one waits a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PLACES_MAX = 64
"""Most places of one name that a session dials; of more it takes some by chance, and stays with
them as long as the name has them."""


@dataclass
class _Name:
    places: tuple[str, ...] = ()
    """As last found; empty before."""
    failures: int = 0
    free_s: float = float("-inf")
    """Not to be looked up before."""


class Names:
    """What was found for the addresses that one session may dial."""

    def __init__(self, *, pause: Callable[[int], float], dice: Callable[[], float]) -> None:
        """``pause``: seconds to wait after so many failures in a row."""
        self._pause = pause
        self._dice = dice
        self._known: dict[str, _Name] = {}

    def due(self, addresses: Sequence[str], now_s: float) -> list[str]:
        """Those of these addresses that may be looked up now; all others are forgotten."""
        self._known = {each: self._known.get(each) or _Name() for each in addresses}
        return [each for each, name in self._known.items() if name.free_s <= now_s]

    def found(self, address: str, places: Sequence[str]) -> None:
        """A look-up succeeded; at most `PLACES_MAX` of its places are kept."""
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
        """A look-up failed: what was found last stays, and the next waits."""
        if (name := self._known.get(address)) is not None:
            name.failures += 1
            name.free_s = now_s + self._pause(name.failures)

    @property
    def places(self) -> list[str]:
        """All places known now, each once."""
        return list(dict.fromkeys(p for name in self._known.values() for p in name.places))

    @property
    def free_s(self) -> float:
        """When the first name whose look-up failed may be looked up again; infinite: none did."""
        waiting = [name.free_s for name in self._known.values() if name.failures]
        return min(waiting, default=float("inf"))
