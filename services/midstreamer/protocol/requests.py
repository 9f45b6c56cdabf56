"""The life of one request, at who asks and at who answers, and of the draining of a link.

Three tables, the words in them, and what the shell is to do.  `protocol.exchange` runs on these
tables, and the pictures in the reference are drawn from them.  A request in a final state is
forgotten at once: whatever still comes for its number is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import msgspec

from midstreamer.domain import errors
from midstreamer.domain.errors import LocalProtocolError
from midstreamer.protocol.frames import Answer, Changes, Frame, Request

# --- at who asks --------------------------------------------------------------------------------


class Asked(StrEnum):
    """Where a request stands that was sent."""

    WAITING = "waiting"
    """Its answer is awaited; of a Tail, its next one."""
    ANSWERED = "answered"
    FAILED = "failed"
    """A Failure came, or an answer that cannot be one, or more answers than were read."""
    EXPIRED = "expired"
    """Its budget is over."""
    CANCELLED = "cancelled"
    """Nobody awaits the answer any more."""
    LOST = "lost"
    """The link ended first."""


class AskedEvent(StrEnum):
    """What can happen to it."""

    CHANGES = "changes"
    """One of the many answers of a Tail came."""
    ANSWER = "answer"
    FAILURE = "failure"
    BUDGET_OVER = "budget over"
    LEFT = "asker left"
    LINK_ENDED = "link ended"


ASKED_TRANSITIONS: dict[Asked, dict[AskedEvent, Asked]] = {
    Asked.WAITING: {
        AskedEvent.CHANGES: Asked.WAITING,
        AskedEvent.ANSWER: Asked.ANSWERED,
        AskedEvent.FAILURE: Asked.FAILED,
        AskedEvent.BUDGET_OVER: Asked.EXPIRED,
        AskedEvent.LEFT: Asked.CANCELLED,
        AskedEvent.LINK_ENDED: Asked.LOST,
    },
    # All others are final.
    Asked.ANSWERED: {},
    Asked.FAILED: {},
    Asked.EXPIRED: {},
    Asked.CANCELLED: {},
    Asked.LOST: {},
}


# --- at who answers -----------------------------------------------------------------------------


class Taken(StrEnum):
    """Where a request stands that came."""

    WORKING = "working"
    """It is being worked on."""
    OVERDUE = "overdue"
    """Its budget is over: the work is being ended, and its asker will be told so."""
    ABANDONED = "abandoned"
    """Its asker cancelled, or the link ended: no answer is sent, whatever comes of the work."""
    ANSWERED = "answered"
    """The work ended and the answer was sent."""
    DROPPED = "dropped"
    """The work ended and no answer was sent."""


class TakenEvent(StrEnum):
    """What can happen to it."""

    DONE = "work done"
    BUDGET_OVER = "budget over"
    CANCEL = "cancel"
    LINK_ENDED = "link ended"


TAKEN_TRANSITIONS: dict[Taken, dict[TakenEvent, Taken]] = {
    Taken.WORKING: {
        TakenEvent.DONE: Taken.ANSWERED,
        TakenEvent.BUDGET_OVER: Taken.OVERDUE,
        TakenEvent.CANCEL: Taken.ABANDONED,
        TakenEvent.LINK_ENDED: Taken.ABANDONED,
    },
    # Work that ends in spite of its budget is answered with what it came to.
    Taken.OVERDUE: {
        TakenEvent.DONE: Taken.ANSWERED,
        TakenEvent.CANCEL: Taken.ABANDONED,
        TakenEvent.LINK_ENDED: Taken.ABANDONED,
    },
    # A Cancel may come twice; what changes the store goes on after it, and has a budget too.
    Taken.ABANDONED: {
        TakenEvent.DONE: Taken.DROPPED,
        TakenEvent.BUDGET_OVER: Taken.ABANDONED,
        TakenEvent.CANCEL: Taken.ABANDONED,
        TakenEvent.LINK_ENDED: Taken.ABANDONED,
    },
    Taken.ANSWERED: {},
    Taken.DROPPED: {},
}


# --- of the link --------------------------------------------------------------------------------


class Draining(StrEnum):
    """How far a link has drained."""

    OPEN = "open"
    """Requests go both ways."""
    ASKED = "asked"
    """We said Drain; requests of the other side may still come."""
    DRAINED = "drained"
    """Both said Drain: no request comes any more, and what is under way is answered."""
    SETTLED = "settled"
    """Nothing is under way, or the link has ended."""


class DrainEvent(StrEnum):
    """What can happen to it."""

    SAID = "we said Drain"
    HEARD = "Drain came"
    """Or the peer does not know Drain, and will never say it."""
    QUIET = "nothing under way"
    LINK_ENDED = "link ended"


DRAIN_TRANSITIONS: dict[Draining, dict[DrainEvent, Draining]] = {
    # Whoever hears Drain first says it too, at once: it sends no request after that.
    Draining.OPEN: {
        DrainEvent.SAID: Draining.ASKED,
        DrainEvent.HEARD: Draining.DRAINED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
    # Drain may be said again: first for the link, and later because the process stops.
    Draining.ASKED: {
        DrainEvent.SAID: Draining.ASKED,
        DrainEvent.HEARD: Draining.DRAINED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
    Draining.DRAINED: {
        DrainEvent.SAID: Draining.DRAINED,
        DrainEvent.HEARD: Draining.DRAINED,
        DrainEvent.QUIET: Draining.SETTLED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
    # A peer that does not know Drain may still send a request here.
    Draining.SETTLED: {
        DrainEvent.SAID: Draining.SETTLED,
        DrainEvent.HEARD: Draining.SETTLED,
        DrainEvent.QUIET: Draining.SETTLED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
}


# --- what is kept of a request ------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Ask:
    """A request that was sent and whose answer is awaited."""

    request: Request
    deadline_s: float
    many: bool
    """It is a Tail, with many answers and without a deadline."""
    unread: int = 0
    """Of the many answers, those that its reader has not taken."""
    state: Asked = Asked.WAITING


@dataclass(slots=True, eq=False)
class Work:
    """A request that came and is being worked on."""

    request: Request
    deadline_s: float
    endless: bool
    """It is a Tail: it ends with the link, or when it is cancelled."""
    state: Taken = Taken.WORKING


# --- what the shell is to do ----------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send this frame."""

    frame: Frame
    at_once: bool = False
    """Nothing else will travel with it soon."""


class Resolve(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request of ours."""

    number: int
    answer: Answer


class Tell(msgspec.Struct, frozen=True, gc=False):
    """One of the many answers to a Tail of ours. Call `Exchange.read` when it is taken."""

    number: int
    changes: Changes


class Fail(msgspec.Struct, frozen=True, gc=False):
    """A request of ours has no answer, and why."""

    number: int
    error: errors.MidstreamerError


class Begin(msgspec.Struct, frozen=True, gc=False):
    """Work on a request; call `Exchange.worked` with its number when that has ended."""

    request: Request


class Stop(msgspec.Struct, frozen=True, gc=False):
    """End the work on a request; `Exchange.worked` is called all the same."""

    request: Request


class Statement(msgspec.Struct, frozen=True, gc=False):
    """A statement came: handle it before what comes next."""

    frame: Frame


class Breach(msgspec.Struct, frozen=True, gc=False):
    """A frame came that its sender may not send: close the link with this."""

    code: str
    message: str


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A frame of an unknown name came; a request is answered by another effect."""

    name: str


class Heard(msgspec.Struct, frozen=True, gc=False):
    """The other side said Drain."""


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The link has drained, and nothing is under way."""


Effect = Send | Resolve | Tell | Fail | Begin | Stop | Statement | Breach | Skip | Heard | Settled

_State = TypeVar("_State", bound=StrEnum)
_Event = TypeVar("_Event", bound=StrEnum)


def moved(table: Mapping[_State, Mapping[_Event, _State]], state: _State, event: _Event) -> _State:
    """The state after an event; LocalProtocolError when the table does not allow it."""
    after = table[state].get(event)
    if after is None:
        allowed = ", ".join(table[state])
        raise LocalProtocolError(f"{event} while {state}; allowed: {allowed or 'nothing'}")
    return after
