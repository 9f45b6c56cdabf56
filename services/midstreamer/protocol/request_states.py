"""State tables of a request, at its sender and at its receiver, and of the draining of a link.

The module has three transition tables, their states and events, and the effects for the code that
does the I/O.  `protocol.link_exchange` runs these tables.  The pictures in the documentation are
drawn from them.  A request in a final state is dropped at once: frames that arrive for it later are
ignored.
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

# --- This section defines states and events of a request at its sender. -------------------------


class Asked(StrEnum):
    """State of a request at the side that sent it."""

    WAITING = "waiting"
    """The answer is awaited; for a Tail, the next of its answers."""
    ANSWERED = "answered"
    FAILED = "failed"
    """A Failure or an invalid answer arrived, or too many answers of a Tail were left unread."""
    EXPIRED = "expired"
    """The time budget of the request ended without an answer."""
    CANCELLED = "cancelled"
    """The caller no longer awaits the answer."""
    LOST = "lost"
    """The link ended before the answer arrived."""


class AskedEvent(StrEnum):
    """Event for a request at the side that sent it."""

    CHANGES = "changes"
    """One of the many answers to a Tail arrived."""
    ANSWER = "answer"
    FAILURE = "failure"
    BUDGET_OVER = "budget over"
    LEFT = "caller gave up"
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
    # The states from here on are final.
    Asked.ANSWERED: {},
    Asked.FAILED: {},
    Asked.EXPIRED: {},
    Asked.CANCELLED: {},
    Asked.LOST: {},
}


# --- This section defines states and events of a request at its receiver. -----------------------


class Taken(StrEnum):
    """State of a request at the side that received it."""

    WORKING = "working"
    """A task works on the request."""
    OVERDUE = "overdue"
    """The time budget ended: the work is being stopped, and a Failure will answer the request."""
    ABANDONED = "abandoned"
    """The sender cancelled the request, or the link ended: no answer will be sent."""
    ANSWERED = "answered"
    """The work ended and the answer was sent."""
    DROPPED = "dropped"
    """The work ended and no answer was sent."""


class TakenEvent(StrEnum):
    """Event for a request at the side that received it."""

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
    # The budget has ended. If the work still ends with a result, the answer is that result.
    Taken.OVERDUE: {
        TakenEvent.DONE: Taken.ANSWERED,
        TakenEvent.CANCEL: Taken.ABANDONED,
        TakenEvent.LINK_ENDED: Taken.ABANDONED,
    },
    # A second Cancel may arrive. Work that changes the store goes on after a Cancel, so its budget
    # may end before the work does.
    Taken.ABANDONED: {
        TakenEvent.DONE: Taken.DROPPED,
        TakenEvent.BUDGET_OVER: Taken.ABANDONED,
        TakenEvent.CANCEL: Taken.ABANDONED,
        TakenEvent.LINK_ENDED: Taken.ABANDONED,
    },
    Taken.ANSWERED: {},
    Taken.DROPPED: {},
}


# --- This section defines states and events of the draining of a link. --------------------------


class Draining(StrEnum):
    """How far a link has drained.

    First both sides stop sending new requests. Then the requests that are still open end.
    """

    OPEN = "open"
    """Both sides may send requests."""
    ASKED = "asked"
    """Our side sent Drain. Requests of the other side may still arrive."""
    DRAINED = "drained"
    """Both sides sent Drain: no new request can arrive. Open requests are still answered."""
    SETTLED = "settled"
    """Both sides sent Drain, and no request except Tail is open any more. Or the link has ended."""


class DrainEvent(StrEnum):
    """Event for the draining of a link."""

    SAID = "Drain sent"
    HEARD = "Drain received"
    """The peer sent Drain, or does not know Drain and so will never send it."""
    QUIET = "no open request"
    """No request other than Tail is under way on the link, in either direction."""
    LINK_ENDED = "link ended"


DRAIN_TRANSITIONS: dict[Draining, dict[DrainEvent, Draining]] = {
    # Suppose that our side receives Drain and has not sent Drain: it answers with Drain at once and
    # sends no more requests. So HEARD leads directly to DRAINED.
    Draining.OPEN: {
        DrainEvent.SAID: Draining.ASKED,
        DrainEvent.HEARD: Draining.DRAINED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
    # Drain may be sent twice: first to replace the link, and later because the process stops.
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
    # In this state, a peer that does not know Drain may still send a request.
    Draining.SETTLED: {
        DrainEvent.SAID: Draining.SETTLED,
        DrainEvent.HEARD: Draining.SETTLED,
        DrainEvent.QUIET: Draining.SETTLED,
        DrainEvent.LINK_ENDED: Draining.SETTLED,
    },
}


# --- This section defines the records that are kept of open requests. ---------------------------


@dataclass(slots=True, eq=False)
class Ask:
    """A request that this side sent, and whose answer is awaited."""

    request: Request
    deadline_s: float
    many: bool
    """True for a Tail: it has many answers and no deadline."""
    unread: int = 0
    """Number of answers to a Tail that have arrived and that nobody has read yet."""
    state: Asked = Asked.WAITING


@dataclass(slots=True, eq=False)
class Work:
    """A request that this side received and works on."""

    request: Request
    deadline_s: float
    endless: bool
    """True for a Tail: the work ends only with the link, or when it is cancelled."""
    state: Taken = Taken.WORKING


# --- This section defines the effects, which the I/O code carries out. ----------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Effect: send ``frame`` on the link."""

    frame: Frame
    flush: bool = False
    """True: do not delay the frame, because no other frame follows soon to share a packet."""


class Resolve(msgspec.Struct, frozen=True, gc=False):
    """Effect: give ``answer`` to the caller of our request ``number``."""

    number: int
    answer: Answer


class Tell(msgspec.Struct, frozen=True, gc=False):
    """Effect: pass ``changes`` to the caller of our Tail ``number``, as one of its answers.

    Call `Exchange.read` when the caller has read the answer.
    """

    number: int
    changes: Changes


class Fail(msgspec.Struct, frozen=True, gc=False):
    """Effect: raise ``error`` to the caller of our request ``number``."""

    number: int
    error: errors.MidstreamerError


class Begin(msgspec.Struct, frozen=True, gc=False):
    """Effect: start work on a received request.

    Call `Exchange.worked` with the request's number when the work has ended.
    """

    request: Request


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Effect: stop the work on a request. Call `Exchange.worked` when the work has ended."""

    request: Request


class Statement(msgspec.Struct, frozen=True, gc=False):
    """Effect: handle a received statement (a frame without an answer) before the next frame."""

    frame: Frame


class Breach(msgspec.Struct, frozen=True, gc=False):
    """Effect: the peer sent a frame that it may not send; close the link with this reason."""

    code: str
    message: str


class Skip(msgspec.Struct, frozen=True, gc=False):
    """Effect: note that a frame with an unknown name arrived.

    If the frame is a request, a separate `Send` answers it.
    """

    name: str


class Heard(msgspec.Struct, frozen=True, gc=False):
    """Effect: note that the peer sent Drain."""


class Settled(msgspec.Struct, frozen=True, gc=False):
    """Effect: note that the link has ended, or has drained with no request open except Tails."""


Effect = Send | Resolve | Tell | Fail | Begin | Stop | Statement | Breach | Skip | Heard | Settled

_State = TypeVar("_State", bound=StrEnum)
_Event = TypeVar("_Event", bound=StrEnum)


def moved(table: Mapping[_State, Mapping[_Event, _State]], state: _State, event: _Event) -> _State:
    """Return the state after an event; raise LocalProtocolError if the table does not allow it."""
    after = table[state].get(event)
    if after is None:
        allowed = ", ".join(table[state])
        raise LocalProtocolError(
            f'event "{event}" is not allowed in state "{state}"; allowed: {allowed or "nothing"}'
        )
    return after
