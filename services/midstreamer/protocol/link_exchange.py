"""Requests and answers on one open link: sans-IO.

Both sides run this machine.  It numbers requests, tracks those under way in both directions, keeps
their budgets, checks received frames against `protocol.authorisation`, sends and handles Cancel and
Drain, and counts the unread answers of a Tail.  The state tables are in `protocol.request_states`.

How to use it: call `Exchange.ask` and send the request that it returns; `leave` when nobody awaits
the answer any more; `take` for each received frame; `worked` when the work for a request has ended;
`tick` at the time of `next_wakeup_s`; `end` when the link has ended.  Carry out the returned
effects in order.

`take` changes no state for a frame whose effect is `Statement` or `Breach`.  So the caller may put
such a frame aside, finish the frames before it, and pass the frame to `take` again.

A frame with an unknown name may come from a newer peer, so the link stays open.  The frame is
skipped; if it is a request, the answer is a Failure with the code of `Unsupported`.

Work for requests in `KEPT` continues after a Cancel: it changes stored data, and must be finished
or refused as a whole.  Work for all other requests stops.
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
from midstreamer.protocol.request_states import (
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
"""Default limit of received requests that are worked on at once, on one link."""
RETRY_AFTER_S = 0.05
BUDGET_S_MAX = 300.0
"""Maximum seconds of work for one request, even if its budget is larger."""
FOLLOW_MAX = 1024
"""Default limit of unread answers of a Tail. Beyond it, the reader gets an Overloaded error."""
STALE_MAX = 64
"""The heap of deadlines also holds deadlines of ended requests. These are removed when the heap has
more entries than twice the number of open requests plus `STALE_MAX`."""
TRACE_CHARACTERS_MAX = 256
"""Maximum characters of a request's trace. A longer trace is dropped, because it occupies
memory."""
KEPT: frozenset[type[Request]] = frozenset(
    {frames.Append, frames.Write, frames.Renew, frames.Retire}
)
"""Requests whose work continues to its end even if the sender cancels them."""


NOTHING: list[Effect] = []
"""The empty list of effects, shared by all calls. Never change it."""


# --- the machine --------------------------------------------------------------------------------


class Exchange:
    """The state machine of all requests on one link, in both directions."""

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
        """Capabilities of the peer."""
        self.state = Draining.OPEN
        self.said = self.said_leaving = False
        """``said``: we sent Drain. ``said_leaving``: this Drain said that our process will stop."""
        self.heard = self.leaving = False
        """``heard``: the peer sent Drain. ``leaving``: this Drain said that the peer will stop."""
        self._allowed = authorisation.allowed(peer.kind, me.kind)
        self.in_flight_max = in_flight_max
        """Maximum requests of the peer that are worked on at once."""
        self._follow_max = follow_max
        self._asked: dict[int, Ask] = {}
        self._taken: dict[int, Work] = {}
        self._last = 0
        self._tails = self._endless = 0
        """``_tails``: number of our open Tails. ``_endless``: number of the peer's open Tails."""
        self._deadlines: list[tuple[float, bool, int]] = []
        """Heap of (deadline, whether the request is ours, its number). May hold ended requests."""

    @property
    def asked(self) -> int:
        """Number of our requests that are under way."""
        return len(self._asked)

    @property
    def taken(self) -> int:
        """Number of the peer's requests that are under way."""
        return len(self._taken)

    @property
    def busy(self) -> bool:
        """Whether requests other than Tail are under way, in either direction."""
        return len(self._asked) > self._tails or len(self._taken) > self._endless

    def next_wakeup_s(self) -> float:
        """Return the time at which to call `tick`; infinity while there is no deadline."""
        return self._deadlines[0][0] if self._deadlines else math.inf

    # --- The methods in this section are for requests that we send. ---

    def ask(self, frame: Request, now_s: float, *, budget_s: float, trace: str = "") -> Request:
        """Return ``frame``, numbered, to be sent. Raise LinkClosed if the peer has sent Drain."""
        if self.heard:
            raise LinkClosed(
                f"{self.peer.name} is draining this link and takes no more requests on it",
                retry_after_s=RETRY_AFTER_S,
            )
        require(frame, self.peer, self.capabilities)
        budget_s = 0.0 if math.isnan(budget_s) else budget_s  # NaN would break the heap's order
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
        """Drop our request because nobody awaits its answer; do nothing if it has ended."""
        ask = self._asked.get(number)
        if ask is None:
            return NOTHING
        self._ask_ended(ask, AskedEvent.LEFT)
        return self._cancelled(number, sent=sent) + self._quiet()

    def read(self, number: int) -> None:
        """Record that the caller has read one answer to our Tail request of this number."""
        ask = self._asked.get(number)
        if ask is not None:
            ask.unread -= 1

    def _settle(self, answer: Answer) -> list[Effect]:
        number = answer.request
        ask = self._asked.get(number)
        if ask is None:
            return NOTHING  # a late answer: the caller has given up
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
            error = Overloaded(
                f"{ask.unread} Changes frames of a Tail are unread, the limit is"
                f" {self._follow_max}: follow again and read faster"
            )
        else:
            error = RemoteProtocolError(
                f"{type(answer).__name__} is no valid answer to a Tail: only Changes is"
            )
        self._ask_ended(ask, AskedEvent.FAILURE)
        return [Fail(number, error), *self._cancelled(number), *self._quiet()]

    def _ask_ended(self, ask: Ask, event: AskedEvent) -> None:
        ask.state = moved(ASKED_TRANSITIONS, ask.state, event)
        del self._asked[ask.request.request]
        self._tails -= ask.many

    def _cancelled(self, number: int, *, sent: bool = True) -> list[Effect]:
        return [Send(Cancel(number))] if sent and Capability.CANCEL in self.capabilities else []

    # --- The methods in this section handle frames that we receive. ---

    def take(self, frame: Frame, now_s: float) -> list[Effect]:
        """Handle a received frame and return the effects."""
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
        """Handle the end of the work on a request.

        ``answer`` is None if the work was stopped, or ended without an answer.
        """
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

    # --- The methods in this section handle deadlines and the end of the link. ---

    def tick(self, now_s: float) -> list[Effect]:
        """Handle all deadlines up to ``now_s``: fail our requests and stop overdue work."""
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
        # A peer may use the number of an ended request again. Then the heap has two entries for
        # that number. The infinite deadline set here makes this method return early when the
        # second entry is popped, so that the work is not stopped twice.
        work.deadline_s = math.inf
        before, work.state = (
            work.state,
            moved(TAKEN_TRANSITIONS, work.state, TakenEvent.BUDGET_OVER),
        )
        stopped = before is Taken.ABANDONED and type(work.request) not in KEPT
        return NOTHING if stopped else [Stop(work.request)]

    def end(self, message: str) -> list[Effect]:
        """Handle the end of the link: fail our requests and stop all work."""
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
        deadlines = [(a.deadline_s, True, n) for n, a in self._asked.items() if not a.many]
        deadlines += [(w.deadline_s, False, n) for n, w in self._taken.items() if not w.endless]
        heapq.heapify(deadlines)
        return deadlines

    # --- draining ---

    def drain(self, *, leaving: bool = False) -> list[Effect]:
        """Send Drain, if the peer knows it. The peer then sends its next requests on other links.

        With ``leaving`` the Drain also says that our process is about to stop.
        """
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


# --- helpers ------------------------------------------------------------------------------------


def require(frame: Frame, peer: Identity, capabilities: frozenset[str]) -> None:
    """Raise Unsupported if the frame needs a capability that the peer does not have."""
    needed = lacking(frame, capabilities)
    if needed is not None:
        raise errors.Unsupported(
            f"{peer.name} does not know {type(frame).__name__}: its version lacks the capability"
            f" {needed}; upgrade it"
        )


def _unknown(frame: frames.Unknown, me: Identity) -> list[Effect]:
    """Skip a frame with an unknown name; if it is a request, answer that it is unsupported."""
    if not frame.request:
        return [Skip(frame.name)]
    error = errors.Unsupported(
        f"{me.name} does not know {frame.name}: it has protocol version {frames.VERSION} with the"
        f" capabilities {', '.join(OURS)}; upgrade it, or do not send {frame.name}"
    )
    return [Skip(frame.name), Send(failure(frame.request, error))]


def failure(number: int, error: errors.MidstreamerError) -> Failure:
    """Return the Failure frame that answers request ``number`` with an error."""
    return Failure(
        request=number, code=error.code, message=error.message, retry_after_s=error.retry_after_s
    )


def overdue(request: Request) -> DeadlineExceeded:
    """Return the error for a request whose budget ended before the work on it was complete."""
    return DeadlineExceeded(
        f"{type(request).__name__} was not answered within its budget of {request.budget_s:g} s"
    )


def _time(budget_s: float) -> float:
    """Clamp a request's budget to [0, BUDGET_S_MAX]. NaN and infinite budgets become 0."""
    return max(0.0, min(budget_s, BUDGET_S_MAX)) if math.isfinite(budget_s) else 0.0
