"""Computes how each event affected the clients' requests, and which promises are broken. No I/O.

A request belongs to the last event that began before the request started. There is one exception.
An event may begin while the request is open, at most `OPEN_S` seconds after the request started.
Then the event has interrupted the request, and the request belongs to this event.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.load.client_reports import Request, Retry

OPEN_S = 1.0
SLOW_S = 0.5
"""Seconds after which a request counts as delayed: ten times the usual duration."""
CALM = "nothing happens"
WRONG_LINE = re.compile(
    r"Traceback \(most recent call last\)|unexpected|was never (retrieved|awaited)"
)
"""Matches log lines that must not appear, whichever process is restarted."""


class Happened(NamedTuple):
    """An event of the plan, with the times at which it was carried out."""

    what: str
    signal: str
    """Name of the signal that ended the process; empty when no process was ended."""
    at_s: float
    ended_s: float = 0.0
    """Seconds that the process took to end after the signal."""
    back_s: float = 0.0
    """Seconds from the event until the fleet was complete again."""
    complaint: str = ""


@dataclass
class Outcome:
    """An event and the requests that belong to it."""

    event: Happened
    requests: list[Request] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)

    @property
    def failed(self) -> list[Request]:
        """Requests whose caller got an error."""
        return [each for each in self.requests if each.error]

    def slowest_s(self, what: str) -> float:
        """Return the longest duration of one kind of request, in seconds."""
        return max((each.took_s for each in self.requests if each.what == what), default=0.0)

    @property
    def delayed(self) -> list[Request]:
        """Requests that were answered after more than `SLOW_S` seconds."""
        return [each for each in self.requests if each.took_s > SLOW_S and not each.error]

    @property
    def silence_s(self) -> float:
        """The longest time during which one of the clients got no answer, in seconds."""
        longest, since_s = 0.0, [self.event.at_s] if self.event.what != CALM else []
        for client in {each.client for each in self.requests}:
            ends = sorted(e.end_s for e in self.requests if e.client == client and not e.error)
            times = itertools.pairwise(since_s + ends)
            longest = max([longest, *(after - before for before, after in times)])
        return longest

    @property
    def recovery_s(self) -> float:
        """Seconds from the event until its last delayed or failed request had ended."""
        late = [each.end_s for each in (*self.delayed, *self.failed)]
        if not late or self.event.what == CALM:
            return 0.0
        return max(late) - self.event.at_s


def outcomes(
    happened: Sequence[Happened], requests: Iterable[Request], retries: Iterable[Retry] = ()
) -> list[Outcome]:
    """Return one outcome for the time before the first event, then one for each event, in order."""
    before = Outcome(Happened(CALM, "", float("-inf")))
    found = [before, *(Outcome(event) for event in happened)]
    for request in requests:
        until_s = min(request.end_s, request.due_s + OPEN_S)
        found[_last(happened, until_s)].requests.append(request)
    for retry in retries:
        found[_last(happened, retry.at_s)].retries.append(retry)
    return found


def _last(happened: Sequence[Happened], until_s: float) -> int:
    return sum(event.at_s <= until_s for event in happened)


@dataclass
class Evidence:
    """What was found wrong in the store and in the logs after the load has ended."""

    lost: list[str] = field(default_factory=list)
    """Data that was acknowledged, but is not stored with the acknowledged value."""
    faults: list[str] = field(default_factory=list)
    """What `midstreamer db check` finds in the store."""
    log_lines: list[str] = field(default_factory=list)
    """All log lines that `WRONG_LINE` matches, each as ``<log>: <line>``."""


def wrong_lines(name: str, text: str) -> list[str]:
    """Return the lines of a log that match `WRONG_LINE`."""
    return [f"{name}: {line}" for line in text.splitlines() if WRONG_LINE.search(line)]


def broken(found: Sequence[Outcome], evidence: Evidence, *, kill: bool) -> list[str]:
    """Return every broken promise; after SIGKILL requests may fail, but nothing may be lost."""
    wrong = [f"{each.event.what}: {each.event.complaint}" for each in found if each.event.complaint]
    if not any(each.requests for each in found):
        wrong.append("no request was made")
    if not kill:
        wrong += [
            f"{each.event.what}: {len(each.failed)} requests failed, the first, {first.what}, after"
            f" {first.took_s:.1f} s with {first.error}"
            for each in found
            for first in each.failed[:1]
        ]
    for title, several in vars(evidence).items():
        wrong += [f"{title}: {each}" for each in several[:5]]
        if len(several) > 5:
            wrong.append(f"{title}: {len(several) - 5} more")
    return wrong
