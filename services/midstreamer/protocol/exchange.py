"""Requests and answers on one open link: sans-IO.

Both sides run this machine.  It gives requests their numbers, knows what is under way in both
directions, holds every budget, judges what comes by `protocol.authorisation`, says and hears
Cancel and Drain, and counts the many answers of a Tail.  The tables are in `protocol.requests`.

How to drive it: call `ask` and send the request that it returns; call `leave` when nobody awaits
the answer any more; call `take` for each frame that comes, `worked` when the work for a request
has ended, `tick` when `next_wakeup_s` has come, `end` when the link has ended.  Carry the effects
out in order.

`take` changes nothing for a frame whose effect is `Statement` or `Breach`.  So the shell may put
such a frame aside, finish what came before, and offer the frame again.

A frame of a name that this version does not know is skipped; a request is answered `Unsupported`.
The link stays open, and whoever sent it may be a newer peer.

Work for requests in `KEPT` goes on after a Cancel: it changes what is stored, and is finished or
refused as a whole.  Work for all others ends.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

import msgspec

from midstreamer.domain import errors
from midstreamer.domain.errors import DeadlineExceeded, LinkClosed, Overloaded, RemoteProtocolError
from midstreamer.domain.identity import Identity
from midstreamer.protocol import authorisation, frames
from midstreamer.protocol.capabilities import OURS, Capability, lacking
from midstreamer.protocol.frames import Answer, Cancel, Changes, Drain, Failure, Frame, Request
from midstreamer.protocol.requests import (
    ASKED_TRANSITIONS,
    DRAIN_TRANSITIONS,
    TAKEN_TRANSITIONS,
    Ask,
    AskedEvent,
    Begin,
    Breach,
    DrainEvent,
    Draining,
    Effect,
    Fail,
    Heard,
    Resolve,
    Send,
    Settled,
    Skip,
    Statement,
    Stop,
    Taken,
    TakenEvent,
    Tell,
    Work,
    moved,
)

IN_FLIGHT_MAX = 256
RETRY_AFTER_S = 0.05
BUDGET_S_MAX = 300.0
"""No request is worked on longer, whatever its budget says."""
FOLLOW_MAX = 1024
"""Answers of a Tail that may wait for a slow reader; it is then told to begin again."""
STALE_MAX = 64
"""Deadlines of requests that have ended, kept besides one for each that is under way."""
TRACE_CHARACTERS_MAX = 256
"""Of a request's trace. A longer one is none, and would be kept for as long as the request."""
KEPT: frozenset[type[Request]] = frozenset(
    {frames.Append, frames.Write, frames.Renew, frames.Retire}
)
"""Requests that are worked on to their end though their asker cancels."""


NOTHING: list[Effect] = []
"""Never changed."""


# --- the machine --------------------------------------------------------------------------------


class Exchange:
    """All requests of one link, in both directions."""

    def __init__(
        self,
        me: Identity,
        peer: Identity,
        capabilities: Iterable[str] = (),
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        follow_max: int = FOLLOW_MAX,
    ) -> None:
        self.me = me
        self.peer = peer
        self.capabilities = frozenset(capabilities)
        """Of the peer."""
        self.state = Draining.OPEN
        self.said = self.said_leaving = False
        """We said Drain; that our process is about to stop."""
        self.heard = self.leaving = False
        """The other side said Drain; that its process is about to stop."""
        self._allowed = authorisation.allowed(peer.kind, me.kind)
        self.in_flight_max = in_flight_max
        """Requests of the other side that are worked on at once."""
        self._follow_max = follow_max
        self._asked: dict[int, Ask] = {}
        self._taken: dict[int, Work] = {}
        self._last = 0
        self._tails = self._endless = 0
        """Tails among those asked, and among those taken."""
        self._deadlines: list[tuple[float, bool, int]] = []
        """When, whether it was asked by us, and its number. Those of ended requests are skipped."""

    @property
    def asked(self) -> int:
        """Requests of ours under way."""
        return len(self._asked)

    @property
    def taken(self) -> int:
        """Requests of the other side under way."""
        return len(self._taken)

    @property
    def busy(self) -> bool:
        """Whether requests are under way, in either direction; Tails do not count."""
        return len(self._asked) > self._tails or len(self._taken) > self._endless

    def next_wakeup_s(self) -> float:
        """When to call `tick`; infinity while nothing has a deadline."""
        return self._deadlines[0][0] if self._deadlines else math.inf

    # --- requests of ours ---

    def ask(self, frame: Request, now_s: float, *, budget_s: float, trace: str = "") -> Request:
        """The request to send, with its number. LinkClosed after Drain came."""
        if self.heard:
            raise LinkClosed(
                f"{self.peer.name} takes no more requests on this link",
                retry_after_s=RETRY_AFTER_S,
            )
        require(frame, self.peer, self.capabilities)
        budget_s = 0.0 if math.isnan(budget_s) else budget_s  # it would disorder all deadlines
        self._last = number = self._last + 1
        request = msgspec.structs.replace(
            frame, request=number, budget_s=budget_s, trace=trace or frame.trace
        )
        many = type(frame) is frames.Tail
        ask = self._asked[number] = Ask(request, now_s + budget_s, many)
        if many:
            self._tails += 1
        else:
            self._remember(ask.deadline_s, True, number)
        return request

    def leave(self, number: int, *, sent: bool = True) -> list[Effect]:
        """Nobody awaits this answer any more; nothing happens when it has come."""
        ask = self._asked.get(number)
        if ask is None:
            return NOTHING
        self._ask_ended(ask, AskedEvent.LEFT)
        return self._cancelled(number, sent=sent) + self._quiet()

    def read(self, number: int) -> None:
        """The reader of a Tail has taken one of its answers."""
        ask = self._asked.get(number)
        if ask is not None:
            ask.unread -= 1

    def _settle(self, answer: Answer) -> list[Effect]:
        number = answer.request
        ask = self._asked.get(number)
        if ask is None:
            return NOTHING  # late: its asker has given up
        if isinstance(answer, Failure):
            self._ask_ended(ask, AskedEvent.FAILURE)
            error = errors.from_code(answer.code, answer.message, answer.retry_after_s)
            return [Fail(number, error), *self._quiet()]
        if ask.many:
            return self._follow(ask, answer)
        self._ask_ended(ask, AskedEvent.ANSWER)
        return [Resolve(number, answer), *self._quiet()] if self.said else [Resolve(number, answer)]

    def _follow(self, ask: Ask, answer: Answer) -> list[Effect]:
        number = ask.request.request
        if isinstance(answer, Changes) and ask.unread < self._follow_max:
            ask.state = moved(ASKED_TRANSITIONS, ask.state, AskedEvent.CHANGES)
            ask.unread += 1
            return [Tell(number, answer)]
        error: errors.MidstreamerError
        if isinstance(answer, Changes):
            error = Overloaded(f"{ask.unread} changes wait for their reader: follow again")
        else:
            error = RemoteProtocolError(f"{type(answer).__name__} answers a Tail")
        self._ask_ended(ask, AskedEvent.FAILURE)
        return [Fail(number, error), *self._cancelled(number), *self._quiet()]

    def _ask_ended(self, ask: Ask, event: AskedEvent) -> None:
        ask.state = moved(ASKED_TRANSITIONS, ask.state, event)
        del self._asked[ask.request.request]
        self._tails -= ask.many

    def _cancelled(self, number: int, *, sent: bool = True) -> list[Effect]:
        return [Send(Cancel(number))] if sent and Capability.CANCEL in self.capabilities else []

    # --- what comes ---

    def take(self, frame: Frame, now_s: float) -> list[Effect]:
        """Take a frame in; say what is to be done."""
        if type(frame) is frames.Unknown:
            return _unknown(frame, self.me)
        breach = self._objection(frame)
        if breach is not None:
            return [breach]
        if isinstance(frame, Answer):
            return self._settle(frame)
        if isinstance(frame, Request):
            return self._begin(frame, now_s)
        if isinstance(frame, Cancel):
            return self._cancel(frame.number)
        if isinstance(frame, Drain):
            return self._hear(frame)
        return [Statement(frame)]

    def _objection(self, frame: Frame) -> Breach | None:
        sender = self.peer
        if type(frame) not in self._allowed:
            name = type(frame).__name__
            message = f"a {sender.kind} may not send {name} to a {self.me.kind}"
            return Breach(authorisation.NOT_AUTHORISED, message)
        claim = authorisation.claim(sender, frame)
        return Breach(authorisation.CLAIM_MISMATCH, claim) if claim else None

    def _begin(self, request: Request, now_s: float) -> list[Effect]:
        number = request.request
        error = self._no_room(number)
        if error is not None:
            return [Send(failure(number, error))]
        endless = type(request) is frames.Tail
        if not (endless or 0.0 <= request.budget_s <= BUDGET_S_MAX):
            request = msgspec.structs.replace(request, budget_s=_time(request.budget_s))
        if len(request.trace) > TRACE_CHARACTERS_MAX:
            request = msgspec.structs.replace(request, trace="")
        work = self._taken[number] = Work(request, now_s + request.budget_s, endless)
        if endless:
            self._endless += 1
        else:
            self._remember(work.deadline_s, False, number)
        return [Begin(request)]

    def _no_room(self, number: int) -> errors.MidstreamerError | None:
        if len(self._taken) >= self.in_flight_max:
            return Overloaded(
                f"{len(self._taken)} requests of {self.peer.name} are under way,"
                f" in_flight_max={self.in_flight_max}",
                retry_after_s=RETRY_AFTER_S,
            )
        if number in self._taken:
            return errors.BadInput(
                f"request {number} of {self.peer.name} is under way already: give each request of"
                " a link a number of its own"
            )
        return None

    def _cancel(self, number: int) -> list[Effect]:
        work = self._taken.get(number)
        if work is None:
            return NOTHING
        before, work.state = work.state, moved(TAKEN_TRANSITIONS, work.state, TakenEvent.CANCEL)
        if before is not Taken.WORKING or type(work.request) in KEPT:
            return NOTHING
        return [Stop(work.request)]

    def worked(self, number: int, answer: Answer | None) -> list[Effect]:
        """The work on a request has ended; None: without an answer, or before its end."""
        work = self._taken.pop(number, None)
        if work is None:
            return NOTHING
        self._endless -= work.endless
        before, work.state = work.state, moved(TAKEN_TRANSITIONS, work.state, TakenEvent.DONE)
        if work.state is Taken.DROPPED:
            return self._quiet()
        if answer is None and before is Taken.OVERDUE:
            answer = failure(number, overdue(work.request))
        if answer is None:
            return self._quiet()
        send = Send(msgspec.structs.replace(answer, request=number), not self._taken)
        return [send, *self._quiet()] if self.said else [send]

    # --- time and the end ---

    def tick(self, now_s: float) -> list[Effect]:
        """The time of `next_wakeup_s` may have come."""
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, ours, number = heapq.heappop(self._deadlines)
            effects += self._expired(number, now_s) if ours else self._overdue(number, now_s)
        return effects + self._quiet()

    def _expired(self, number: int, now_s: float) -> list[Effect]:
        ask = self._asked.get(number)
        if ask is None or ask.many or ask.deadline_s > now_s:
            return NOTHING
        self._ask_ended(ask, AskedEvent.BUDGET_OVER)
        error = DeadlineExceeded(
            f"{type(ask.request).__name__} to {self.peer.name}:"
            f" no answer within {ask.request.budget_s:g} s"
        )
        return [Fail(number, error), *self._cancelled(number)]

    def _overdue(self, number: int, now_s: float) -> list[Effect]:
        work = self._taken.get(number)
        if work is None or work.endless or work.deadline_s > now_s:
            return NOTHING
        # A number that was used before has an older deadline, too: one late tick may see both.
        work.deadline_s = math.inf
        before, work.state = (
            work.state,
            moved(TAKEN_TRANSITIONS, work.state, TakenEvent.BUDGET_OVER),
        )
        stopped = before is Taken.ABANDONED and type(work.request) not in KEPT
        return NOTHING if stopped else [Stop(work.request)]

    def end(self, message: str) -> list[Effect]:
        """The link has ended: nothing is answered any more."""
        effects: list[Effect] = []
        for number, ask in list(self._asked.items()):
            self._ask_ended(ask, AskedEvent.LINK_ENDED)
            effects.append(Fail(number, LinkClosed(message)))
        for work in self._taken.values():
            work.state = moved(TAKEN_TRANSITIONS, work.state, TakenEvent.LINK_ENDED)
            effects.append(Stop(work.request))
        self._deadlines.clear()
        self.state = moved(DRAIN_TRANSITIONS, self.state, DrainEvent.LINK_ENDED)
        return [*effects, Settled()]

    def _remember(self, deadline_s: float, ours: bool, number: int) -> None:
        deadlines = self._deadlines
        live = len(self._asked) + len(self._taken)
        if len(deadlines) > 2 * live + STALE_MAX:
            self._deadlines = deadlines = self._live_deadlines()
        heapq.heappush(deadlines, (deadline_s, ours, number))

    def _live_deadlines(self) -> list[tuple[float, bool, int]]:
        made = [(a.deadline_s, True, n) for n, a in self._asked.items() if not a.many]
        made += [(w.deadline_s, False, n) for n, w in self._taken.items() if not w.endless]
        heapq.heapify(made)
        return made

    # --- draining ---

    def drain(self, *, leaving: bool = False) -> list[Effect]:
        """Ask the other side to send its next requests elsewhere, if it understands that."""
        if self.said and (self.said_leaving or not leaving):
            return NOTHING
        self.said, self.said_leaving = True, leaving
        self._move(DrainEvent.SAID)
        if Capability.DRAIN not in self.capabilities:
            self._move(DrainEvent.HEARD)
            return self._quiet()
        return [Send(Drain(leaving=leaving)), *self._quiet()]

    def _hear(self, drain: Drain) -> list[Effect]:
        if self.heard and (self.leaving or not drain.leaving):
            return NOTHING
        self.heard, self.leaving = True, self.leaving or drain.leaving
        self._move(DrainEvent.HEARD)
        effects: list[Effect] = []
        if not self.said and Capability.DRAIN in self.capabilities:
            effects.append(Send(Drain()))
        self.said = True
        return [*effects, Heard(), *self._quiet()]

    def _quiet(self) -> list[Effect]:
        if self.state is not Draining.DRAINED or self.busy:
            return NOTHING
        self._move(DrainEvent.QUIET)
        return [Settled()]

    def _move(self, event: DrainEvent) -> None:
        self.state = moved(DRAIN_TRANSITIONS, self.state, event)


# --- small pieces -------------------------------------------------------------------------------


def require(frame: Frame, peer: Identity, capabilities: frozenset[str]) -> None:
    """Raise Unsupported for a frame that this peer does not know."""
    needed = lacking(frame, capabilities)
    if needed is not None:
        raise errors.Unsupported(
            f"{peer.name} does not know {type(frame).__name__}: its version names no capability"
            f" {needed}; upgrade it"
        )


def _unknown(frame: frames.Unknown, me: Identity) -> list[Effect]:
    """A newer peer may say what this version does not know: a request is answered, by name."""
    if not frame.request:
        return [Skip(frame.name)]
    error = errors.Unsupported(
        f"{me.name} does not know {frame.name}: it speaks frames of version {frames.VERSION}"
        f" with {', '.join(OURS)}; upgrade it, or do without"
    )
    return [Skip(frame.name), Send(failure(frame.request, error))]


def failure(number: int, error: errors.MidstreamerError) -> Failure:
    """The answer that tells of an error."""
    return Failure(
        request=number, code=error.code, message=error.message, retry_after_s=error.retry_after_s
    )


def overdue(request: Request) -> DeadlineExceeded:
    """What a request comes to whose budget is over before the work on it."""
    return DeadlineExceeded(f"{type(request).__name__}: {request.budget_s:g} s are over")


def _time(budget_s: float) -> float:
    """The nearest time that may be worked on a request; what is no time at all is none."""
    return max(0.0, min(budget_s, BUDGET_S_MAX)) if math.isfinite(budget_s) else 0.0
