"""Dispatch: decide which agent searches which shard, and what happens when an agent fails.

A request is complete when each of its shards is *covered* by exactly one answer.  An attempt asks
one agent to search several shards.  Its answer merges the results of these shards, so it is used
as a whole or not at all.  An answer is accepted only while none of its shards is covered.  Every
other attempt for one of these shards is then *overtaken*, and its remaining shards are asked for
again.  An attempt that is overtaken, or whose request has ended, is cancelled at its agent.

The shards of one attempt fit into one frame; one agent may get several attempts.

Each shard goes to an agent that holds it: first to agents without an overdue attempt, then to those
that have reached the requested feed position, then to the least busy one.  When an attempt fails,
its shards go to other holders immediately.  When all holders have failed, they are retried after a
pause, until the deadline.  An attempt without an answer after ``patience_s`` is *overdue*: other
holders are asked too (a hedge), and a late answer is still accepted, because a search gives the
same result whenever it runs.  A shard without a holder waits until an agent reports the shard.

`runtime.admission` bounds the number of requests before they get here.

This module has no event loop and no clock: events and ``now_s`` go in, effects come out.  It
passes the answers of agents on, and does not read them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from enum import StrEnum

from midstreamer.coordinator import search_batches, shard_report_checks
from midstreamer.coordinator.dispatch_events import (
    Abandon,
    AgentLeaves,
    Answered,
    Asked,
    Effect,
    Event,
    Fail,
    Failed,
    Finish,
    HangUp,
    LinkLost,
    Reported,
    Send,
    Tick,
    Withdrawn,
)
from midstreamer.coordinator.shard_holders import Agent, Holders
from midstreamer.domain import errors
from midstreamer.domain.shard import Shard

# --- This section defines the states of an attempt, and what changes them. ----------------------


class AttemptState(StrEnum):
    """The state of one attempt."""

    ASKED = "asked"
    """The Search is sent and its answer is awaited."""
    OVERDUE = "overdue"
    """No answer within ``patience_s``: other holders are asked too; a late answer still counts."""
    TAKEN = "taken"
    """The answer was accepted and covers the shards of the attempt."""
    SPENT = "spent"
    """The attempt failed, or its answer is no longer needed: another answer covered one of its
    shards first, or the request ended."""


class Outcome(StrEnum):
    """What can happen to an attempt, and so change its state."""

    ANSWERED = "answered"
    """The agent sent an answer."""
    FAILED = "failed"
    """The agent sent an error, or its connection ended."""
    SILENT = "silent"
    """No answer came within ``patience_s``."""
    OVERTAKEN = "overtaken"
    """The answer of another attempt covered a shard of this attempt, or the request ended."""


TRANSITIONS: dict[AttemptState, dict[Outcome, AttemptState]] = {
    AttemptState.ASKED: {
        Outcome.ANSWERED: AttemptState.TAKEN,
        Outcome.FAILED: AttemptState.SPENT,
        Outcome.SILENT: AttemptState.OVERDUE,
        Outcome.OVERTAKEN: AttemptState.SPENT,
    },
    AttemptState.OVERDUE: {
        Outcome.ANSWERED: AttemptState.TAKEN,
        Outcome.FAILED: AttemptState.SPENT,
        Outcome.OVERTAKEN: AttemptState.SPENT,
    },
    # Final states: the attempt is removed at once, and later answers to it are ignored.
    AttemptState.TAKEN: {},
    AttemptState.SPENT: {},
}

LIVE = frozenset({AttemptState.ASKED, AttemptState.OVERDUE})


# --- the machine --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """Timings and limits of `Dispatch`."""

    patience_s: float = 1.0
    """Seconds without an answer after which an attempt is overdue and other holders are asked."""
    pause_s: float = 0.05
    """Minimum seconds before a retry when all holders of a shard have failed."""
    shards_max: int = 1_000_000
    """Maximum number of shards that one agent may report."""


@dataclass
class _Attempt:
    """One Search at one agent, for some shards of one request."""

    number: int
    key: int
    agent: str
    shards: tuple[Shard, ...]
    overdue_s: float
    state: AttemptState = AttemptState.ASKED


@dataclass
class _Request:
    """A request under way and the progress of its shards."""

    asked: Asked
    waiting: dict[Shard, float]
    """Shards for which an agent must be chosen, because none is asked yet or the attempts so far
    failed or are overdue.  For each shard: the earliest loop time to ask an agent."""
    covered: set[Shard] = field(default_factory=set)
    answers: list[object] = field(default_factory=list)
    attempts: dict[int, _Attempt] = field(default_factory=dict)
    """The attempts that are ASKED or OVERDUE, by number."""
    failed: dict[Shard, dict[str, errors.MidstreamerError]] = field(default_factory=dict)
    """For each shard, the error of each agent that failed to search it.  Temporary errors are
    removed when a retry of the shard is scheduled, so that these agents are asked again."""


class Dispatch:
    """The state of all requests under way and of all connected agents."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._holders = Holders()
        self._requests: dict[int, _Request] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._numbers = itertools.count(1)
        self.overdue = 0
        """Number of attempts that have become overdue since the start of the process."""

    @property
    def depth(self) -> int:
        """Number of requests under way."""
        return len(self._requests)

    def shards_of(self, agent: str) -> frozenset[Shard]:
        """Return the shards that a connected agent reports; empty for an unknown agent."""
        known = self._holders.agents.get(agent)
        return frozenset(known.shards) if known else frozenset()

    def held(self, shard: Shard) -> bool:
        """Return whether any connected agent reports this shard."""
        return bool(self._holders.of(shard))

    def holders(self, shard: Shard) -> int:
        """Return how many connected agents report this shard."""
        return len(self._holders.of(shard))

    def agents(self) -> dict[str, int]:
        """Return the feed position that each connected agent has reported, by agent name."""
        return {name: agent.position for name, agent in self._holders.agents.items()}

    def next_wakeup_s(self) -> float | None:
        """Return the loop time at which the next `Tick` is due; None when no timer is needed."""
        times = [
            time
            for request in self._requests.values()
            for time in (
                request.asked.deadline_s,
                *(at for shard, at in request.waiting.items() if at > 0 and self.held(shard)),
                *(a.overdue_s for a in request.attempts.values() if a.state is AttemptState.ASKED),
            )
        ]
        return min(times, default=None)

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Apply one event at loop time ``now_s`` and return the effects to carry out."""
        match event:
            case Asked():
                return self._ask(event, now_s)
            case Withdrawn(key):
                return self._close(key)
            case Reported():
                return self._report(event, now_s)
            case AgentLeaves(agent):
                self._holders.forget(agent)
                return []
            case LinkLost(agent):
                return self._lose(agent, now_s)
            case Answered(number, answer):
                return self._answer(number, answer, now_s)
            case Failed(number, error):
                return self._fail(number, error, now_s)
            case Tick():
                return self._tick(now_s)

    # --- requests ---

    def _ask(self, event: Asked, now_s: float) -> list[Effect]:
        request = _Request(event, dict.fromkeys(event.shards, 0.0))
        self._requests[event.key] = request
        return self._advance(request, now_s)

    def _close(self, key: int) -> list[Effect]:
        request = self._requests.pop(key, None)
        return [self._overtake(attempt) for attempt in request.attempts.values()] if request else []

    def _advance(self, request: _Request, now_s: float) -> list[Effect]:
        """Finish a request when all its shards are covered.  Fail it when they cannot all be
        covered any more.  Otherwise send Searches for the shards that wait."""
        asked = request.asked
        if len(request.covered) == len(set(asked.shards)):
            return [Finish(asked.key, tuple(request.answers)), *self._close(asked.key)]
        error = self._hopeless(request, now_s)
        if error is not None:
            return [Fail(asked.key, error), *self._close(asked.key)]
        return self._send(request, now_s)

    def _hopeless(self, request: _Request, now_s: float) -> errors.MidstreamerError | None:
        if now_s >= request.asked.deadline_s:
            return self._too_late(request)
        for shard, failures in request.failed.items():
            for error in failures.values():
                if isinstance(error, errors.BadInput):
                    return error
            holders = self._holders.of(shard)
            final = [e for e in failures.values() if not isinstance(e, errors.Unavailable)]
            if final and holders <= failures.keys() and len(final) == len(failures):
                return final[-1]
        return None

    def _too_late(self, request: _Request) -> errors.MidstreamerError:
        missing = [shard for shard in request.asked.shards if shard not in request.covered]
        orphan = next((shard for shard in missing if not self.held(shard)), None)
        reasons = [e for failures in request.failed.values() for e in failures.values()]
        why = ""
        if orphan is not None:
            why = f"; no connected agent holds {orphan.series} shard {orphan.number}"
        elif reasons:
            why = f"; last failure: {reasons[-1].message}"
        return errors.DeadlineExceeded(
            f"{len(missing)} of {len(request.asked.shards)} shards were not answered in time{why}"
        )

    def _send(self, request: _Request, now_s: float) -> list[Effect]:
        chosen: dict[str, list[Shard]] = {}
        asked = _asked_of(request)
        for shard in sorted(request.waiting):
            if request.waiting[shard] <= now_s:
                agent = self._choose(request, shard, asked.get(shard, frozenset()), now_s)
                if agent is not None:
                    agent.asked += 1
                    del request.waiting[shard]
                    chosen.setdefault(agent.name, []).append(shard)
        return [
            self._attempt(request, name, part, now_s)
            for name, shards in chosen.items()
            for part in search_batches.parts(shards, request.asked.room)
        ]

    def _attempt(
        self, request: _Request, agent: str, shards: tuple[Shard, ...], now_s: float
    ) -> Send:
        asked = request.asked
        attempt = _Attempt(
            next(self._numbers), asked.key, agent, shards, now_s + self.limits.patience_s
        )
        request.attempts[attempt.number] = self._attempts[attempt.number] = attempt
        return Send(attempt.number, asked.key, agent, shards, asked.deadline_s)

    def _choose(
        self, request: _Request, shard: Shard, silent: Set[str], now_s: float
    ) -> Agent | None:
        """Return the best agent to search a shard: a holder that has not failed to search the shard
        and is not searching it now.  Return None if there is no such holder."""
        holders = self._holders.of(shard)
        if not holders:
            return None
        failures = request.failed.get(shard, {})
        free = [self._holders.agents[name] for name in holders - failures.keys() - silent]
        if free:
            at_least = request.asked.at_least
            return min(
                free,
                key=lambda a: (a.silent > 0, a.position < at_least, a.asked, a.busy, a.name),
            )
        self._pause(request, shard, now_s)
        return None

    def _pause(self, request: _Request, shard: Shard, now_s: float) -> None:
        """Schedule a retry of a shard after all its holders failed or became overdue.

        Only holders that failed with a temporary error are asked again.
        """
        failures = request.failed.get(shard, {})
        passing = [e for e in failures.values() if isinstance(e, errors.Unavailable)]
        # No holder of this shard failed with a temporary error.  So no holder is asked again, and
        # no time for a retry is set.  The shard waits until an attempt is answered or fails, or
        # until another agent reports the shard.
        if not passing:
            request.waiting[shard] = 0.0
            return
        wait_s = max(self.limits.pause_s, min(e.retry_after_s for e in passing))
        request.waiting[shard] = now_s + wait_s
        request.failed[shard] = {
            name: error for name, error in failures.items() if error not in passing
        }

    # --- attempts ---

    def _move(self, attempt: _Attempt, outcome: Outcome) -> AttemptState:
        """Give an attempt the state that follows from an outcome, and return this state.  No other
        method changes the state of an attempt."""
        allowed = TRANSITIONS[attempt.state]
        if outcome not in allowed:
            raise errors.LocalProtocolError(
                f"attempt {attempt.number} got the outcome {outcome} in state {attempt.state};"
                f" outcomes allowed in this state: {', '.join(allowed)}"
            )
        before, attempt.state = attempt.state, allowed[outcome]
        agent = self._holders.agents.get(attempt.agent)
        if agent is not None:
            agent.silent += (attempt.state is AttemptState.OVERDUE) - (
                before is AttemptState.OVERDUE
            )
        if before in LIVE and attempt.state not in LIVE:
            if agent is not None:
                agent.asked -= len(attempt.shards)
            if (request := self._requests.get(attempt.key)) is not None:
                request.attempts.pop(attempt.number, None)
        return attempt.state

    def _answer(self, number: int, answer: object, now_s: float) -> list[Effect]:
        attempt = self._attempts.pop(number, None)
        if attempt is None or self._move(attempt, Outcome.ANSWERED) is not AttemptState.TAKEN:
            return []
        request = self._requests[attempt.key]
        request.covered.update(attempt.shards)
        request.answers.append(answer)
        for shard in attempt.shards:
            request.waiting.pop(shard, None)
            request.failed.pop(shard, None)
        losers = [
            other
            for other in request.attempts.values()
            if not request.covered.isdisjoint(other.shards)
        ]
        abandoned: list[Effect] = [self._overtake(other) for other in losers]
        for other in losers:
            self._wait_again(request, other.shards)
        return abandoned + self._advance(request, now_s)

    def _overtake(self, attempt: _Attempt) -> Effect:
        self._move(attempt, Outcome.OVERTAKEN)
        del self._attempts[attempt.number]
        return Abandon(attempt.number)

    def _fail(self, number: int, error: errors.MidstreamerError, now_s: float) -> list[Effect]:
        attempt = self._attempts.pop(number, None)
        if attempt is None or attempt.state not in LIVE:
            return []
        self._move(attempt, Outcome.FAILED)
        request = self._requests[attempt.key]
        for shard in attempt.shards:
            request.failed.setdefault(shard, {})[attempt.agent] = error
        self._wait_again(request, attempt.shards)
        return self._advance(request, now_s)

    def _wait_again(self, request: _Request, shards: Iterable[Shard]) -> None:
        """Add these shards to ``request.waiting``, so that another agent is asked for them.

        Leave out a shard that is covered, or for which an attempt is ASKED.
        """
        asked = {
            shard
            for attempt in request.attempts.values()
            if attempt.state is AttemptState.ASKED
            for shard in attempt.shards
        }
        for shard in shards:
            if shard not in request.covered and shard not in asked:
                request.waiting.setdefault(shard, 0.0)

    # --- agents and time ---

    def _report(self, event: Reported, now_s: float) -> list[Effect]:
        agent = self._holders.known(event.agent)
        agent.position, agent.busy = event.position, event.busy
        self._holders.drop(agent, event.dropped)
        self._holders.add(agent, event.shards)
        reason = shard_report_checks.objection(
            event, agent.shards, agent.digest, self.limits.shards_max
        )
        if reason:
            return [HangUp(agent.name, reason)]
        if not event.shards:
            return []
        return [
            effect
            for request in list(self._requests.values())
            if request.waiting
            for effect in self._advance(request, now_s)
        ]

    def _lose(self, name: str, now_s: float) -> list[Effect]:
        self._holders.forget(name)
        error = errors.LinkClosed(f"the connection to {name} ended before its answer")
        lost = [a.number for a in self._attempts.values() if a.agent == name]
        return [effect for number in lost for effect in self._fail(number, error, now_s)]

    def _tick(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for request in list(self._requests.values()):
            for attempt in list(request.attempts.values()):
                if attempt.state is AttemptState.ASKED and now_s >= attempt.overdue_s:
                    self._move(attempt, Outcome.SILENT)
                    self.overdue += 1
                    self._wait_again(request, attempt.shards)
            effects += self._advance(request, now_s)
        return effects


# --- small pieces -------------------------------------------------------------------------------


def _asked_of(request: _Request) -> dict[Shard, set[str]]:
    """Return for each shard the names of the agents that are asked to search it now."""
    asked: dict[Shard, set[str]] = {}
    for attempt in request.attempts.values():
        for shard in attempt.shards:
            asked.setdefault(shard, set()).add(attempt.agent)
    return asked
