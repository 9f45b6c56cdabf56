"""Decide when to request a certificate, and describe a renewal that fails; pure.

    no certificate ──request at once──▶ obtained ──two thirds of its life──▶ request again
           ▲                                                                    │
           └───────────────── failed: a pause that doubles ◀────────────────────┘

All times are seconds since 1970 by the system clock.  If that clock is set back, the planned time
of the next request is void, and a certificate is requested at once.
"""

from __future__ import annotations

import datetime as dt

RENEW_AT = 2.0 / 3.0
"""Share of its life after which a certificate is renewed. The remaining third is a reserve in case
the issuer is not reachable."""
SPREAD = 0.1
"""Random variation of the time until a renewal: 0.1 means up to 10 % shorter or longer. So
processes that were started together do not send their requests together."""
LEAST_S = 1.0
"""Shortest pause between two requests, in seconds. After a failure the pause is multiplied by a
random number from 0.5 to 1, so there it may be as short as 0.5 s."""
PAUSE_MOST_S = 300.0
"""Longest pause after a failed request, in seconds."""
LEFT_SHARE = 0.1
"""Share of the certificate's remaining life that a pause after a failure may take at most. So there
is time for several more requests before the certificate expires."""
DOUBLINGS_MAX = 16
"""Maximum number of times that the pause is doubled. `PAUSE_MOST_S` limits the pause already after
fewer doublings, but after very many failures the power of 2 would overflow a float."""


class Renewal:
    """Plans the certificate requests of one process."""

    def __init__(self) -> None:
        self.why = ""
        """Why the last request failed; empty when it brought a certificate."""
        self.failures = 0
        """Number of requests that have failed since the last success."""
        self._planned_s: float | None = None
        self._due_s = 0.0
        self._ends_s: float | None = None

    @property
    def due_s(self) -> float:
        """Time of the next request; 0 before the first request."""
        return self._due_s

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next request; 0 when it is due."""
        if self._planned_s is None or now_s < self._planned_s:
            return 0.0
        return max(0.0, self._due_s - now_s)

    def obtained(self, ends_s: float, now_s: float, dice: float) -> None:
        """Record a new certificate that expires at ``ends_s``, and plan its renewal.

        ``dice`` is a random number from 0 to 1; it varies the time of the renewal (`SPREAD`).  The
        certificate's life is counted from now, not from the begin of its validity, because
        authorities put that begin into the past.
        """
        life_s = max(0.0, ends_s - now_s)
        spread = 1.0 + SPREAD * (2.0 * dice - 1.0)
        self.why, self.failures, self._ends_s = "", 0, ends_s
        self._plan(now_s, max(LEAST_S, life_s * RENEW_AT * spread))

    def failed(self, why: str, now_s: float, dice: float) -> None:
        """Record that a request failed because of ``why``, and plan the next request.

        ``dice`` is a random number from 0 to 1; it varies the pause before the next request.
        """
        self.failures += 1
        self.why = why
        most_s = PAUSE_MOST_S
        if self._ends_s is not None and self._ends_s > now_s:
            most_s = min(most_s, max(LEAST_S, (self._ends_s - now_s) * LEFT_SHARE))
        doublings = min(self.failures - 1, DOUBLINGS_MAX)
        self._plan(now_s, min(most_s, LEAST_S * 2.0**doublings) * (0.5 + 0.5 * dice))

    def complaint(self, now_s: float) -> str:
        """Return why a new certificate is missing, and when the old one expires; "" if all is well.

        A new certificate is missing when the last request failed, or when the old one has expired.
        """
        has_expired = self._ends_s is not None and now_s > self._ends_s
        if not (self.why or has_expired):
            return ""
        why = self.why or "a request is under way"
        if self._ends_s is None:
            return f"no certificate yet: {why}"
        state = "expired on" if has_expired else "is in force until"
        return f"no new certificate: {why}; the present one {state} {_moment(self._ends_s)}"

    def _plan(self, now_s: float, pause_s: float) -> None:
        self._planned_s, self._due_s = now_s, now_s + pause_s


def _moment(at_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(at_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
