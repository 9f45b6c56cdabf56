"""Decide which servers to avoid when several servers share one address; pure.

Behind one address (a NodePort, a LoadBalancer, a ClusterIP) there may be several servers, and the
server that answers is chosen anew for each source port.  So a server that drains, or whose link
just failed, is remembered by its identity.  When a dial reaches such a server again, the link is
closed and the address is dialled again to find another server.  A token bucket limits these extra
dials; when it is empty, the link is kept whichever server answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midstreamer.runtime.backoff import Backoff
from midstreamer.runtime.next_address import AWAY_S

DOUBT_S = 10.0
"""Seconds after a failure for which a session assumes that an address may lead to a dead server."""
ALONE_S = 600.0
"""Seconds for which an address is assumed to have only one server, after further dials have reached
no other server there. During that time, a failure does not start further dials."""
TRIES_AWAY = 8
"""Maximum number of further dials, after a dial has reached a draining server. With two servers
behind an address, in one of 256 cases all 8 further dials reach the draining server again."""
TRIES_FAILED = 2
"""Maximum number of further dials to find another server, after a link has failed. The number is
small, because usually the same server works again, or it is the only server."""
BESIDE_AWAY = 8, 0.15
"""(number, seconds) for an address whose server has drained: while a dial gets no answer, up to
this number of further dials start in parallel, this many seconds apart. They are needed because a
dial may lead to a server that has stopped; such a dial never gets an answer."""
BESIDE_FAILED = 2, 0.5
"""(number, seconds) for an address where a link has failed: while a dial gets no answer, up to this
number of further dials start in parallel, this many seconds apart. Only few are started, because
after a failure many clients may reconnect at the same time. A server that is only slow must not get
several handshakes from each of these clients."""
PAUSES = Backoff(first_s=0.02, most_s=0.08)
"""Pauses between dials that search for another server."""
BURST = 10
"""Size of the token bucket. Each extra dial, after or beside the first dial, takes a token. So a
session may begin this many extra dials in a burst."""
PER_S = 1.0
"""Tokens that the token bucket gains per second. So in the long run, a session may begin this many
extra dials per second."""


@dataclass
class _Doubt:
    """How to dial an address that may lead to a draining or dead server."""

    until_s: float
    """Time until which `tries` and `beside` apply; after that the address is dialled normally."""
    tries: int
    """Maximum dials after the first one, to find another server."""
    beside: tuple[int, float]
    """(number, seconds): while a dial gets no answer, up to this number of further dials start in
    parallel, this many seconds apart."""


class Avoiding:
    """Servers and addresses that one session avoids, and its limit of extra dials."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self._until_s: dict[str, float] = {}
        """For each server, by its name: the time until which it is avoided."""
        self._doubts: dict[str, _Doubt] = {}
        self._alone_s: dict[str, float] = {}
        """For each address: the time until which it is taken to have one server only."""
        self._tokens = float(BURST)
        self._filled_s = float("-inf")

    def sent_away(self, address: str, server: str, now_s: float) -> None:
        """Record that the server at an address drains, so that it is avoided."""
        self._alone_s.pop(address, None)
        self._note(address, server, TRIES_AWAY, BESIDE_AWAY, now_s)

    def failed(self, address: str, server: str, now_s: float) -> None:
        """Record that a link to the server at an address was lost."""
        tries = 0 if self._is_alone(address, now_s) else TRIES_FAILED
        self._note(address, server, tries, BESIDE_FAILED, now_s)

    def unanswered(self, address: str, now_s: float) -> None:
        """Record that a dial of an address failed; which server failed is unknown."""
        doubt = self._doubts.setdefault(address, _Doubt(now_s, 0, BESIDE_FAILED))
        doubt.until_s = max(doubt.until_s, now_s + DOUBT_S)

    def opened(self, address: str, server: str, now_s: float, *, tries: int) -> None:
        """Record that the session keeps a link to a server, and stops dialling.

        ``tries`` is the number of dials before the dial that opened this link.
        """
        self._doubts.pop(address, None)
        if not self.avoids(server, now_s):
            self._alone_s.pop(address, None)
        elif tries:
            self._alone_s[address] = now_s + ALONE_S

    def avoids(self, server: str, now_s: float) -> bool:
        """Return whether a server drained or failed recently, so that it is to be avoided."""
        return self._until_s.get(server, float("-inf")) > now_s

    def beside(self, address: str, now_s: float) -> tuple[int, float]:
        """Return (number, seconds): how many further dials may start in parallel while a dial of
        an address gets no answer, and how many seconds apart.

        The number is 0 for an address without recent failures, or with one server only.
        """
        doubt = self._doubts.get(address)
        if doubt is None or doubt.until_s <= now_s or self._is_alone(address, now_s):
            return 0, 0.0
        return doubt.beside

    def again(self, address: str, tries: int, now_s: float) -> float | None:
        """Return the seconds to wait before another dial of the address, to find another server.

        Returns None when the search for another server is to end, for one of these reasons: at this
        address no server failed or drained recently, so there is no need to search; ``tries`` has
        reached the limit of this address; or the token bucket for extra dials is empty.
        """
        doubt = self._doubts.get(address)
        if doubt is None or doubt.until_s <= now_s or tries >= doubt.tries:
            return None
        return PAUSES.after(tries + 1, dice=self._dice()) if self.take(now_s) else None

    def take(self, now_s: float) -> bool:
        """Take a token for one extra dial; return whether there was one."""
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
        self._doubts = {
            each: doubt for each, doubt in self._doubts.items() if doubt.until_s > now_s
        }
        self._alone_s = {each: s for each, s in self._alone_s.items() if s > now_s}
        self._until_s[server] = now_s + AWAY_S
        if (before := self._doubts.get(address)) is not None:
            tries, beside = max(tries, before.tries), max(beside, before.beside)
        self._doubts[address] = _Doubt(now_s + DOUBT_S, tries, beside)
