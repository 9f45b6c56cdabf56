"""How many live certificates each identity has: a core, no clock.

A pod needs two: it renews the one it has.  A container that crashes has lost its key and asks
again, 300 times a day at most with the kubelet's usual pauses.  Whoever asks more often than that
fills the ledger, and is no pod of ours that works.

What is known comes from the ledger, read once for each identity, and from what was signed since.
"""

from __future__ import annotations

from collections.abc import Mapping


class Holders:
    """Ends of certificates, by the URI in them and the uid of the request that each answers."""

    def __init__(self) -> None:
        self._ends: dict[str, dict[str, float]] = {}

    def knows(self, uri: str) -> bool:
        """Whether the ledger was read for this identity."""
        return uri in self._ends

    def learn(self, uri: str, ends: Mapping[str, float]) -> None:
        """This stands in the ledger: when each certificate ends, by the uid of its request."""
        self._ends.setdefault(uri, {}).update(ends)

    def sign(self, uri: str, request_uid: str, ends_s: float) -> None:
        """A certificate is about to be made; for one request it counts once."""
        self.learn(uri, {request_uid: ends_s})

    def live(self, uri: str, now_s: float, *, but: str = "") -> int:
        """How many have not ended, without the one for the request ``but``."""
        found = self._ends.get(uri, {})
        return sum(ends_s > now_s for uid, ends_s in found.items() if uid != but)

    def forget(self, now_s: float) -> None:
        """Drop what has ended; identities of which nothing is left are read again when they ask."""
        kept = {
            uri: {uid: ends_s for uid, ends_s in found.items() if ends_s > now_s}
            for uri, found in self._ends.items()
        }
        self._ends = {uri: found for uri, found in kept.items() if found}
