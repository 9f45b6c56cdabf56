"""What a client decides: when to ask again, whom, how much at once, and since which position.

Every request is idempotent by natural keys, so asking again is always safe: a lost answer costs
time, never a double.  `Call` is one request through all its attempts; it is told the time and
the dice and says what to do next.  Errors that another attempt cannot mend end it at once.
`Position` is the causality token of design: the highest position seen, sent with what follows.
Nothing here waits, connects or reads a clock; `client.api` does.
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
from midstreamer.protocol.sizes import ANSWER_BYTES_MAX, decision_bytes_max
from midstreamer.runtime.backoff import Backoff

PASSING = (Unavailable, DeadlineExceeded)
"""Errors that another attempt may mend."""
TICKS_PER_APPEND = 50_000
IDS_PER_LOOKUP = 256


@dataclass(frozen=True)
class Policy:
    """How patiently a client asks again."""

    attempt_s: float = 10.0
    """Longest that one attempt may take before another coordinator is asked."""
    backoff_first_s: float = 0.05
    backoff_most_s: float = 2.0


@dataclass(frozen=True)
class Try:
    """Ask this coordinator now; with no address, whichever is reached first."""

    address: str
    budget_s: float


@dataclass(frozen=True)
class Wait:
    """Do nothing for so long, then ask for the next step."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """Raise this."""

    error: MidstreamerError


@dataclass
class Call:
    """One request through all its attempts.

    ``ready`` are the coordinators with a live link, the best first.  Each of them is asked once in
    a round; between two rounds there is a pause.
    """

    what: str
    policy: Policy
    addresses: Sequence[str]
    """Where the client was told to ask: for messages."""
    started_s: float
    deadline_s: float
    attempts: int = 0
    last: MidstreamerError | None = field(default=None)
    _asked: str = ""
    _tried: set[str] = field(default_factory=set)
    """Asked in this round."""
    _rounds: int = 0

    def begin(self, now_s: float, ready: Sequence[str]) -> Try | GiveUp:
        """The next attempt, or the end when no time is left."""
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
        """What to do after an attempt failed; ``dice`` is uniform in [0, 1)."""
        self.attempts += 1
        self._tried.add(self._asked)
        others = any(each not in self._tried for each in ready)
        # Who was turned away by one may be let in by another; by all, waiting is in vain.
        if not isinstance(error, PASSING) and not (isinstance(error, Refused) and others):
            return GiveUp(error)
        if self.last is None or not isinstance(error, DeadlineExceeded):
            self.last = error  # that time ran out tells less than why it did
        delay_s = 0.0 if others else self._delay_s(error, dice)
        if now_s + delay_s >= self.deadline_s:
            return GiveUp(self._out_of_time(now_s))
        return Wait(delay_s)

    def _delay_s(self, error: MidstreamerError, dice: float) -> float:
        """Everybody in this round has been asked: how long until the next."""
        self._rounds += 1
        self._tried.clear()
        backoff = Backoff(self.policy.backoff_first_s, self.policy.backoff_most_s)
        return max(error.retry_after_s, backoff.after(self._rounds + 1, dice=dice))

    def _out_of_time(self, now_s: float) -> MidstreamerError:
        told = f"; the last said error[{self.last.code}]: {self.last.message}" if self.last else ""
        return DeadlineExceeded(
            f"{self.what} had no answer within {now_s - self.started_s:.1f} s after"
            f" {self.attempts} attempts at {', '.join(self.addresses)}{told}"
        )


def nobody_there(errors: Sequence[MidstreamerError]) -> MidstreamerError:
    """The one error for no connection at all; a refusal tells more than silence."""
    refusal = next((error for error in errors if isinstance(error, Refused)), None)
    return refusal or Unavailable(
        f"{'; '.join(error.message for error in errors)}: start the fleet (`midstreamer run`), or"
        " name the coordinators of one that runs in client.addresses"
    )


def why_nobody(errors: Sequence[MidstreamerError]) -> MidstreamerError:
    """The error of an attempt that reached nobody: a refusal only when all refused."""
    passing = [error for error in errors if not isinstance(error, Refused)]
    return (passing or list(errors) or [Unavailable("no coordinator is known")])[0]


class Position:
    """The highest feed position that any durable answer returned."""

    def __init__(self) -> None:
        self.highest = 0

    def seen(self, position: int) -> None:
        """Take note of an answer's position; older ones change nothing."""
        self.highest = max(self.highest, position)


class Receipt(msgspec.Struct, frozen=True):
    """What became of ticks that were sent."""

    stored: int = 0
    """Ticks that are new."""
    repeated: int = 0
    """Ticks that had been stored before, with the same value."""
    verdicts: tuple[Verdict, ...] = ()
    """Verdicts that these ticks brought, now or when they were first stored."""
    position: int = 0
    level: frames.Level = frames.Level.DURABLE


def receipt(answers: Sequence[frames.Appended], level: frames.Level) -> Receipt:
    """Several answers as one; the level is the weakest that was given."""
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
    """Groups of at most so many ticks and columns, a series once in each, its order kept."""
    group: list[Column] = []
    names: set[str] = set()
    room = ticks
    for whole in columns:
        at = 0
        if whole.series in names or len(group) == columns_max:
            yield tuple(group)
            group, names, room = [], set(), ticks
        while at < len(whole):
            count = min(room, len(whole) - at)
            group.append(_part(whole, at, at + count))
            names.add(whole.series)
            at, room = at + count, room - count
            if room == 0:
                yield tuple(group)
                group, names, room = [], set(), ticks
    if group:
        yield tuple(group)


def _part(whole: Column, start: int, stop: int) -> Column:
    if start == 0 and stop == len(whole):
        return whole
    times, values = whole.times[8 * start : 8 * stop], whole.values[8 * start : 8 * stop]
    return Column(whole.series, times, values)


def split_windows(
    specification: Specification, windows: Sequence[Window]
) -> Iterator[tuple[Window, ...]]:
    """Groups of windows whose request and answer both fit into a frame."""
    most = ANSWER_BYTES_MAX // decision_bytes_max(specification)
    count = max(1, min(frames.WINDOWS_MAX, frames.DECISIONS_MAX, most))
    for at in range(0, len(windows), count):
        yield tuple(windows[at : at + count])


def left_of(found: frames.Experiences, asked: Sequence[bytes]) -> tuple[bytes, ...]:
    """What an answer left to be asked for again: less than was asked."""
    if len(found.left) >= len(asked) or not set(found.left).issubset(asked):
        raise LocalProtocolError(
            f"lookup of {len(asked)} experiences was answered with {len(found.left)} left to ask"
            " for again: an answer takes at least one of them"
        )
    return found.left


def check_deadline(deadline_s: float) -> None:
    """Raise BadInput for what is no time to wait; infinity is one."""
    if not deadline_s > 0:
        raise BadInput(f"deadline_s={deadline_s:g}: it must be above 0, in seconds")


def check_windows(specification: Specification, windows: Sequence[Window]) -> None:
    """Raise BadInput for a window that this specification can say nothing about."""
    for window in windows:
        length = len(window.values) // 8
        if length != specification.window:
            raise BadInput(
                f"window of {window.series or 'no series'} has {length} values,"
                f" specification.window is {specification.window}: send exactly as many"
            )
        if window.series and not window.series.startswith(f"{specification.universe}/"):
            raise BadInput(
                f"series {window.series} is not of universe {specification.universe!r}:"
                " use a specification of its own universe"
            )
