"""The number of valid certificates of each identity; pure, the time is given.

The number is limited, so that a broken requester cannot fill the ledger.  A working pod needs two
certificates: the present one, and its renewal.  A container that crashes loses its key and requests
a new certificate after each restart.  With the kubelet's usual pauses these are at most 300 a day.

The certificates of an identity are read from the ledger once.  Those that are signed afterwards are
added to the count.  The ledger is read again only after all certificates of the identity expired.
"""

from __future__ import annotations

from collections.abc import Mapping


class Holders:
    """Holders of certificates, and when each certificate expires, in seconds since 1970.

    A holder is known by the URI of its identity, and a certificate by the uid of its signing
    request.
    """

    def __init__(self) -> None:
        self._ends: dict[str, dict[str, float]] = {}

    def knows(self, uri: str) -> bool:
        """Return whether the ledger was read for this identity."""
        return uri in self._ends

    def learn(self, uri: str, ends: Mapping[str, float]) -> None:
        """Add the certificates of an identity: when each expires, by uid of its signing request."""
        self._ends.setdefault(uri, {}).update(ends)

    def sign(self, uri: str, request_uid: str, ends_s: float) -> None:
        """Add a certificate that is about to be signed, or replace that of the same request."""
        self.learn(uri, {request_uid: ends_s})

    def live(self, uri: str, now_s: float, *, but: str = "") -> int:
        """Count the valid certificates of an identity, except that of the request ``but``."""
        ends = self._ends.get(uri, {})
        return sum(ends_s > now_s for uid, ends_s in ends.items() if uid != but)

    def forget(self, now_s: float) -> None:
        """Drop expired certificates.

        An identity without valid certificates is dropped too. Then the ledger is read again at the
        next request of that identity.
        """
        kept = {
            uri: {uid: ends_s for uid, ends_s in found.items() if ends_s > now_s}
            for uri, found in self._ends.items()
        }
        self._ends = {uri: found for uri, found in kept.items() if found}
