"""Dispatch: which agent is asked for which shard, and what happens when it does not answer.

A request wants every one of its shards *covered* exactly once.  An attempt asks one agent for
some of them, all or nothing, because an answer sums over its shards and cannot be taken apart.
So an answer is taken only while none of its shards is covered; taking it overtakes every other
attempt that shares one, and whatever those had besides is asked for again.  An attempt that was
overtaken, or whose request has ended, is abandoned: its agent is told to stop.

An attempt asks for no more shards than fit into a frame; an agent may be sent several.

Each shard goes to the least busy of the agents that report it, preferring one that keeps nobody
waiting and has reached the position asked for.  When an attempt fails its shards go to other
holders at once; when all holders have failed they are tried again after a pause, as long as the
deadline allows.  An attempt that stays silent for ``patience_s`` is *overdue*: others are asked
as well, and its late answer still counts, since searches are pure.  Shards that nobody holds
wait for a holder.

How many requests there are at once is bounded before they come here (`runtime.admission`).

No loop, no clock: events and ``now_s`` in, effects out.  What an answer contains is not looked
at here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from enum import StrEnum

from midstreamer.coordinator import reports, search_batches
from midstreamer.coordinator.events import (
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
from midstreamer.coordinator.holders import Agent, Holders
from midstreamer.domain import errors
from midstreamer.domain.shard import Shard

# --- the life of an attempt ---------------------------------------------------------------------


class AttemptState(StrEnum):
    """Where an attempt stands."""

    ASKED = "asked"
    """Sent; its answer is awaited."""
    OVERDUE = "overdue"
    """Silent for too long: its shards may be asked of others, a late answer still counts."""
    TAKEN = "taken"
    """Its answer covers its shards."""
    SPENT = "spent"
    """It failed, or another covered a shard of it first."""


class Outcome(StrEnum):
    """What can happen to an attempt."""

    ANSWERED = "answered"
    FAILED = "failed"
    SILENT = "silent"
    OVERTAKEN = "overtaken"


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
    # These are forgotten at once: what still comes of a spent attempt belongs to none.
    AttemptState.TAKEN: {},
    AttemptState.SPENT: {},
}

LIVE = frozenset({AttemptState.ASKED, AttemptState.OVERDUE})


# --- the machine --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """Bounds of the dispatch."""

    patience_s: float = 1.0
    """Silence after which other replicas are asked as well."""
    pause_s: float = 0.05
    """Least wait before asking holders again that have all failed."""
    shards_max: int = 1_000_000
    """Shards kept of what one agent reports."""


@dataclass
class _Attempt:
    number: int
    key: int
    agent: str
    shards: tuple[Shard, ...]
    overdue_s: float
    state: AttemptState = AttemptState.ASKED


@dataclass
class _Request:
    asked: Asked
    waiting: dict[Shard, float]
    """Shards to be asked for, and from when on."""
    covered: set[Shard] = field(default_factory=set)
    answers: list[object] = field(default_factory=list)
    attempts: dict[int, _Attempt] = field(default_factory=dict)
    """The live ones."""
    failed: dict[Shard, dict[str, errors.MidstreamerError]] = field(default_factory=dict)
    """Who failed a shard since it was last given a fresh start, and how."""


class Dispatch:
    """All requests under way and all agents in reach."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._holders = Holders()
        self._requests: dict[int, _Request] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._numbers = itertools.count(1)
        self.overdue = 0
        """Attempts that were silent for too long, since the beginning."""

    @property
    def depth(self) -> int:
        """Requests under way."""
        return len(self._requests)

    def shards_of(self, agent: str) -> frozenset[Shard]:
        """What an agent in reach reports."""
        known = self._holders.agents.get(agent)
        return frozenset(known.shards) if known else frozenset()

    def held(self, shard: Shard) -> bool:
        """Whether an agent in reach reports this shard."""
        return bool(self._holders.of(shard))

    def holders(self, shard: Shard) -> int:
        """How many agents in reach report this shard."""
        return len(self._holders.of(shard))

    def agents(self) -> dict[str, int]:
        """The agents in reach, and the feed position each has reported."""
        return {name: agent.position for name, agent in self._holders.agents.items()}

    def next_wakeup_s(self) -> float | None:
        """When `Tick` is due next; None when nothing waits for time to pass."""
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
        """Take one event in; say what is to be done."""
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
        """Finish, fail or send: whatever a request needs next."""
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
            why = f"; no agent in reach holds {orphan.series} shard {orphan.number}"
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
        """The best holder that has neither failed nor been asked in vain so far."""
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
        """All holders failed or are silent: give those that may recover a fresh start, later."""
        failures = request.failed.get(shard, {})
        passing = [e for e in failures.values() if isinstance(e, errors.Unavailable)]
        if not passing:  # an event will tell: an answer, a failure, another holder
            request.waiting[shard] = 0.0
            return
        wait_s = max(self.limits.pause_s, min(e.retry_after_s for e in passing))
        request.waiting[shard] = now_s + wait_s
        request.failed[shard] = {
            name: error for name, error in failures.items() if error not in passing
        }

    # --- attempts ---

    def _move(self, attempt: _Attempt, outcome: Outcome) -> AttemptState:
        """The one place where an attempt changes state."""
        allowed = TRANSITIONS[attempt.state]
        if outcome not in allowed:
            raise errors.LocalProtocolError(
                f"attempt {attempt.number} was {outcome} while {attempt.state};"
                f" allowed: {', '.join(allowed)}"
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
        """Ask for what is neither covered nor being asked for."""
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
        reason = reports.objection(event, agent.shards, agent.digest, self.limits.shards_max)
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
    """Who is being asked for each shard."""
    asked: dict[Shard, set[str]] = {}
    for attempt in request.attempts.values():
        for shard in attempt.shards:
            asked.setdefault(shard, set()).add(attempt.agent)
    return asked
