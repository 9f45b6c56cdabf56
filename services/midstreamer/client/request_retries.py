"""When and where a client retries a failed request, and how it splits a large request.

Every request is idempotent by natural keys, so a retry is always safe and never stores anything
twice.  `Call` follows one request through all its attempts: it gets the time and a random number,
and returns the next step.  An error that a retry cannot fix ends the call at once.  `Position`
is the highest feed position that the client has seen.  The client sends it with later requests, so
that it reads its own writes.  This module does not wait, connect or read a clock; `client.api`
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from midstreamer.domain.errors import (
    BadInput,
    DeadlineExceeded,
    LocalProtocolError,
    MidstreamerError,
    Refused,
    Unavailable,
)
from midstreamer.domain.series import Column, Window
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames
from midstreamer.protocol.encoded_sizes import ANSWER_BYTES_MAX, decision_bytes_max
from midstreamer.runtime.backoff import Backoff

PASSING = (Unavailable, DeadlineExceeded)
"""Errors that are temporary, so that a retry may succeed."""
TICKS_PER_APPEND = 50_000
"""Maximum number of ticks that the client puts into one Append."""
IDS_PER_LOOKUP = 256
"""Maximum number of experience ids that the client puts into one Lookup."""


@dataclass(frozen=True)
class Policy:
    """Timeout of an attempt, and pauses between retries."""

    attempt_s: float = 10.0
    """Timeout of one attempt in seconds; after the timeout the request is retried."""
    backoff_first_s: float = 0.05
    """Shortest pause in seconds after the first round of attempts.  The real pause is random: it
    lasts this long, up to twice this long.  After each further round these limits double."""
    backoff_most_s: float = 2.0
    """Longest pause between two rounds in seconds, unless an error asks for a longer pause."""


@dataclass(frozen=True)
class Try:
    """Next step of a call: send the request to the coordinator at ``address`` now, and wait at most
    ``budget_s`` seconds for the answer."""

    address: str
    """Address of the coordinator; empty: use the first coordinator that can be reached."""
    budget_s: float


@dataclass(frozen=True)
class Wait:
    """Next step of a call: wait for ``delay_s`` seconds, then get the next attempt from
    `Call.begin`."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """Next step of a call: end the call and raise this error to the code that made the call."""

    error: MidstreamerError


@dataclass
class Call:
    """The state of one request and its attempts.

    The methods get a list ``ready`` of the addresses with an open link, best first.  Attempts are
    made in rounds: one round asks each connected coordinator once, and a pause follows.
    """

    what: str
    policy: Policy
    addresses: Sequence[str]
    """The coordinators' addresses with which the client was configured; for error messages."""
    started_s: float
    deadline_s: float
    attempts: int = 0
    last: MidstreamerError | None = field(default=None)
    _asked: str = ""
    _tried: set[str] = field(default_factory=set)
    """Addresses of the coordinators that were asked in the present round of attempts."""
    _rounds: int = 0

    def begin(self, now_s: float, ready: Sequence[str]) -> Try | GiveUp:
        """Return the next attempt, or `GiveUp` when the deadline has passed."""
        left_s = self.deadline_s - now_s
        if left_s <= 0:
            return GiveUp(self._out_of_time(now_s))
        self._asked = next((each for each in ready if each not in self._tried), "")
        if not self._asked and ready:
            self._tried.clear()
            self._asked = ready[0]
        return Try(self._asked, min(left_s, self.policy.attempt_s))

    def failed(
        self, error: MidstreamerError, now_s: float, dice: float, ready: Sequence[str]
    ) -> Wait | GiveUp:
        """Return what to do after a failed attempt.  ``dice`` is a random number in [0, 1), which
        varies the pause."""
        self.attempts += 1
        self._tried.add(self._asked)
        others = any(each not in self._tried for each in ready)
        # After a refusal, try the other coordinators too, because one of them may accept.
        if not isinstance(error, PASSING) and not (isinstance(error, Refused) and others):
            return GiveUp(error)
        if self.last is None or not isinstance(error, DeadlineExceeded):
            # If the call fails in the end, its message names the error in `last`.  A timeout does
            # not replace an earlier error there, because it would tell the user less.
            self.last = error
        delay_s = 0.0 if others else self._delay_s(error, dice)
        if now_s + delay_s >= self.deadline_s:
            return GiveUp(self._out_of_time(now_s))
        return Wait(delay_s)

    def _delay_s(self, error: MidstreamerError, dice: float) -> float:
        """End a round of attempts and return the pause before the next round, in seconds."""
        self._rounds += 1
        self._tried.clear()
        backoff = Backoff(self.policy.backoff_first_s, self.policy.backoff_most_s)
        return max(error.retry_after_s, backoff.after(self._rounds + 1, dice=dice))

    def _out_of_time(self, now_s: float) -> MidstreamerError:
        last = self.last
        cause = f"; the last error was error[{last.code}]: {last.message}" if last else ""
        return DeadlineExceeded(
            f"{self.what} had no answer within {now_s - self.started_s:.1f} s after"
            f" {self.attempts} attempts at {', '.join(self.addresses)}{cause}"
        )


def nobody_there(errors: Sequence[MidstreamerError]) -> MidstreamerError:
    """Return one error for the user when no address was reached.

    ``errors`` has the error of each address.  Prefer a refusal, because a refusal tells the user
    more than a timeout.
    """
    refusal = next((error for error in errors if isinstance(error, Refused)), None)
    return refusal or Unavailable(
        f"{'; '.join(error.message for error in errors)}: start the fleet (`midstreamer run`), or"
        " set client.addresses to the coordinators of a running fleet"
    )


def why_nobody(errors: Sequence[MidstreamerError]) -> MidstreamerError:
    """Return one error for `Call.failed` when no address was reached.

    ``errors`` has the error of each address.  Return a refusal only if all errors are refusals: any
    other error may be temporary, and the request must then be retried.
    """
    passing = [error for error in errors if not isinstance(error, Refused)]
    return (passing or list(errors) or [Unavailable("no coordinator is known")])[0]


class Position:
    """The highest feed position of all answers that the client has got."""

    def __init__(self) -> None:
        self.highest = 0

    def seen(self, position: int) -> None:
        """Record the feed position of an answer.  A position below the highest changes nothing."""
        self.highest = max(self.highest, position)


class Receipt(msgspec.Struct, frozen=True):
    """The result of an append."""

    stored: int = 0
    """Number of ticks that were new."""
    repeated: int = 0
    """Number of ticks that had been stored before, with the same value."""
    verdicts: tuple[Verdict, ...] = ()
    """Verdicts that became known through these ticks.  If the same ticks are appended again, the
    receipt has the same verdicts again."""
    position: int = 0
    """The highest feed position in the answers.  At the level durable, all ticks are stored at or
    before this position."""
    level: frames.Level = frames.Level.DURABLE
    """Where the ticks are safe: durable (committed in PostgreSQL), spooled (on the coordinator's
    disk) or received (only in its memory)."""


def receipt(answers: Sequence[frames.Appended], level: frames.Level) -> Receipt:
    """Combine the answers to the parts of one append into one Receipt.  Its level is the weakest
    level of all answers."""
    order = list(frames.Level)
    return Receipt(
        sum(answer.stored for answer in answers),
        sum(answer.repeated for answer in answers),
        tuple(verdict for answer in answers for verdict in answer.verdicts),
        max((answer.position for answer in answers), default=0),
        min((answer.level for answer in answers), key=order.index, default=level),
    )


def split_columns(
    columns: Sequence[Column],
    ticks: int = TICKS_PER_APPEND,
    columns_max: int = frames.COLUMNS_MAX,
) -> Iterator[tuple[Column, ...]]:
    """Split columns into groups of at most ``ticks`` ticks and ``columns_max`` columns.

    A group has a series at most once, and the ticks of a series keep their order.
    """
    group: list[Column] = []
    names: set[str] = set()
    room = ticks
    for column in columns:
        at = 0
        if column.series in names or len(group) == columns_max:
            yield tuple(group)
            group, names, room = [], set(), ticks
        while at < len(column):
            count = min(room, len(column) - at)
            group.append(_part(column, at, at + count))
            names.add(column.series)
            at, room = at + count, room - count
            if room == 0:
                yield tuple(group)
                group, names, room = [], set(), ticks
    if group:
        yield tuple(group)


def _part(column: Column, start: int, stop: int) -> Column:
    if start == 0 and stop == len(column):
        return column
    times, values = column.times[8 * start : 8 * stop], column.values[8 * start : 8 * stop]
    return Column(column.series, times, values)


def split_windows(
    specification: Specification, windows: Sequence[Window]
) -> Iterator[tuple[Window, ...]]:
    """Split windows into groups so that the request and the answer of each group fit into one
    frame."""
    most = ANSWER_BYTES_MAX // decision_bytes_max(specification)
    count = max(1, min(frames.WINDOWS_MAX, frames.DECISIONS_MAX, most))
    for at in range(0, len(windows), count):
        yield tuple(windows[at : at + count])


def left_of(found: frames.Experiences, asked: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the ids whose experiences are not in an answer to a Lookup, because the answer would
    be too large.  The caller must request them again.

    Raise LocalProtocolError if the answer has none of the experiences, or says that it left out an
    id that is not in ``asked``.
    """
    if len(found.left) >= len(asked) or not set(found.left).issubset(asked):
        raise LocalProtocolError(
            f"a lookup of {len(asked)} experiences was answered with {len(found.left)} of them left"
            " out: an answer must have at least one of them"
        )
    return found.left


def check_deadline(deadline_s: float) -> None:
    """Raise BadInput unless ``deadline_s`` is above 0; infinity is allowed, NaN is not."""
    if not deadline_s > 0:
        raise BadInput(f"deadline_s={deadline_s:g}: it must be above 0, in seconds")


def check_windows(specification: Specification, windows: Sequence[Window]) -> None:
    """Raise BadInput if the length of a window, or the universe of its series, is not the one in
    the specification."""
    for window in windows:
        length = len(window.values) // 8
        if length != specification.window:
            raise BadInput(
                f"window of {window.series or 'no series'} has {length} values,"
                f" specification.window is {specification.window}: send exactly"
                f" {specification.window} values"
            )
        if window.series and not window.series.startswith(f"{specification.universe}/"):
            raise BadInput(
                f"series {window.series} is not of universe {specification.universe!r}:"
                " use a specification with the universe of the series"
            )
