"""When to ask for a certificate, and what is told while there is no new one: a core, no clock.

    no certificate ──asked at once──▶ obtained ──two thirds of its life──▶ due
                 ▲                                                          │
                 └──────────── failed: a pause that doubles ◀───────────────┘

All times are seconds since 1970, as the clock on the wall says.  That clock may be set back: what
was planned before is then worth nothing, and it is asked again at once.
"""

from __future__ import annotations

import datetime as dt

RENEW_AT = 2.0 / 3.0
"""The share of its life after which a certificate is renewed: a third is left for an issuer that
is away."""
SPREAD = 0.1
"""It is asked up to so much of that time earlier or later, by chance: processes that were started
together do not ask together."""
LEAST_S = 1.0
"""The shortest time between two requests that are planned; by chance a pause is half of it."""
PAUSE_MOST_S = 300.0
LEFT_SHARE = 0.1
"""A pause is at most so much of what is left of the certificate's life."""
DOUBLINGS_MAX = 16


class Renewal:
    """The requests of one process for certificates, one after the other."""

    def __init__(self) -> None:
        self.why = ""
        """Why the last request brought nothing; empty when it brought a certificate."""
        self.failures = 0
        """Requests in a row that brought nothing."""
        self._planned_s: float | None = None
        self._due_s = 0.0
        self._ends_s: float | None = None

    @property
    def due_s(self) -> float:
        """When to ask next; 0 before the first request."""
        return self._due_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until it is time to ask; 0 when it is."""
        if self._planned_s is None or now_s < self._planned_s:
            return 0.0
        return max(0.0, self._due_s - now_s)

    def obtained(self, ends_s: float, now_s: float, dice: float) -> None:
        """There is a certificate that ends at ``ends_s``; ``dice`` is between 0 and 1.

        Its life counts from now: it may begin in the past, because clocks differ.
        """
        life_s = max(0.0, ends_s - now_s)
        spread = 1.0 + SPREAD * (2.0 * dice - 1.0)
        self.why, self.failures, self._ends_s = "", 0, ends_s
        self._plan(now_s, max(LEAST_S, life_s * RENEW_AT * spread))

    def failed(self, why: str, now_s: float, dice: float) -> None:
        """A request brought nothing, for this reason; ``dice`` is between 0 and 1."""
        self.failures += 1
        self.why = why
        most_s = PAUSE_MOST_S
        if self._ends_s is not None and self._ends_s > now_s:
            most_s = min(most_s, max(LEAST_S, (self._ends_s - now_s) * LEFT_SHARE))
        doublings = min(self.failures - 1, DOUBLINGS_MAX)
        self._plan(now_s, min(most_s, LEAST_S * 2.0**doublings) * (0.5 + 0.5 * dice))

    def complaint(self, now_s: float) -> str:
        """Why there is no new certificate, and until when the old one is good; empty if all is."""
        has_expired = self._ends_s is not None and now_s > self._ends_s
        if not (self.why or has_expired):
            return ""
        why = self.why or "it is being asked for"
        if self._ends_s is None:
            return f"no certificate yet: {why}"
        state = "expired on" if has_expired else "is in force until"
        return f"no new certificate: {why}; the present one {state} {_moment(self._ends_s)}"

    def _plan(self, now_s: float, pause_s: float) -> None:
        self._planned_s, self._due_s = now_s, now_s + pause_s


def _moment(at_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(at_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
