"""Servers that are not to be taken while another may answer: pure.

One address may lead to several servers (a NodePort, a LoadBalancer, a ClusterIP): which one
answers is chosen anew for each source port.  So a server that sent us away, or whose link just
failed, is known by its identity, and a new link to it is given up for another dial.  Those dials
are few: a bucket bounds them, and what there is, is taken when it is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.targets import AWAY_S

DOUBT_S = 10.0
"""So long after a failure an address may lead to a server that does not answer."""
ALONE_S = 600.0
"""So long nobody else is looked for after a failure, where the same server alone answered."""
TRIES_AWAY = 8
"""Dials beyond the first for another server than the one that sent us away. Of two behind an
address, one in 256 such searches misses the other."""
TRIES_FAILED = 2
"""Likewise after a link failed: mostly the same server is well again, or alone."""
BESIDE_AWAY = 8, 0.15
"""Most dials beside one that is not answered, and seconds between two, after a server sent us away:
a source port that leads to one that is gone is never answered."""
BESIDE_FAILED = 2, 0.5
"""Likewise after a failure. Many may come back at once then, and a server that is only slow must
not get their handshakes many times."""
PAUSES = Backoff(first_s=0.02, most_s=0.08)
"""Between those dials."""
BURST = 10
"""Dials beyond the usual ones that a session may begin at once."""
PER_S = 1.0
"""So many more it may begin in each second."""


@dataclass
class _Doubt:
    until_s: float
    tries: int
    """Dials beyond the first that look for another server."""
    beside: tuple[int, float]
    """Most dials beside a slow one, and seconds between two."""


class Avoiding:
    """What one session knows of servers behind its addresses."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._until_s: dict[str, float] = {}
        """Servers to leave out, and until when."""
        self._doubts: dict[str, _Doubt] = {}
        self._alone_s: dict[str, float] = {}
        """Addresses where the same server alone answered, and until when that is believed."""
        self._tokens = float(BURST)
        self._filled_s = float("-inf")

    def sent_away(self, address: str, server: str, now_s: float) -> None:
        """The server at an address drains."""
        self._alone_s.pop(address, None)
        self._note(address, server, TRIES_AWAY, BESIDE_AWAY, now_s)

    def failed(self, address: str, server: str, now_s: float) -> None:
        """A link to the server at an address ended by itself."""
        tries = 0 if self._is_alone(address, now_s) else TRIES_FAILED
        self._note(address, server, tries, BESIDE_FAILED, now_s)

    def unanswered(self, address: str, now_s: float) -> None:
        """A dial of an address failed, and which server that was is not known."""
        doubt = self._doubts.setdefault(address, _Doubt(now_s, 0, BESIDE_FAILED))
        doubt.until_s = max(doubt.until_s, now_s + DOUBT_S)

    def opened(self, address: str, server: str, now_s: float, *, tries: int) -> None:
        """A link is taken after so many dials beyond the first."""
        self._doubts.pop(address, None)
        if not self.avoids(server, now_s):
            self._alone_s.pop(address, None)
        elif tries:
            self._alone_s[address] = now_s + ALONE_S

    def avoids(self, server: str, now_s: float) -> bool:
        """Whether a link to this server is not to be taken while another may answer."""
        return self._until_s.get(server, float("-inf")) > now_s

    def beside(self, address: str, now_s: float) -> tuple[int, float]:
        """Most dials beside one that is not answered, and seconds between two; 0: none."""
        doubt = self._doubts.get(address)
        if doubt is None or doubt.until_s <= now_s or self._is_alone(address, now_s):
            return 0, 0.0
        return doubt.beside

    def again(self, address: str, tries: int, now_s: float) -> float | None:
        """Seconds until the address is dialled again for another server; None: it is not."""
        doubt = self._doubts.get(address)
        if doubt is None or doubt.until_s <= now_s or tries >= doubt.tries:
            return None
        return PAUSES.after(tries + 1, dice=self._dice()) if self.take(now_s) else None

    def take(self, now_s: float) -> bool:
        """Whether one dial beyond the usual ones may begin now; it is counted."""
        if self._filled_s < now_s:
            gained = (now_s - self._filled_s) * PER_S
            self._tokens = min(float(BURST), self._tokens + gained)
            self._filled_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _is_alone(self, address: str, now_s: float) -> bool:
        return self._alone_s.get(address, float("-inf")) > now_s

    def _note(
        self, address: str, server: str, tries: int, beside: tuple[int, float], now_s: float
    ) -> None:
        self._until_s = {each: s for each, s in self._until_s.items() if s > now_s}
        self._doubts = {each: one for each, one in self._doubts.items() if one.until_s > now_s}
        self._alone_s = {each: s for each, s in self._alone_s.items() if s > now_s}
        self._until_s[server] = now_s + AWAY_S
        if (before := self._doubts.get(address)) is not None:
            tries, beside = max(tries, before.tries), max(beside, before.beside)
        self._doubts[address] = _Doubt(now_s + DOUBT_S, tries, beside)
