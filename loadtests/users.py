"""Users of a load test under gevent: each has an identity and a link of its own.

`Crowd` begins each request at the moment that the schedule says, by the next user in turn, and
does not wait for answers.  What a user of the SDK would not see is not counted as a failure: a link
that drains or is lost is dialled again, and its request asked again, within the budget and at the
cost of its latency.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.lock import RLock

from loadtests import identities, schedule
from loadtests.link import GeventLink, dial
from loadtests.plan import Plan
from loadtests.tally import Durations, Tally
from loadtests.words import Words, history, specification, windows
from midstreamer.client.calls import PASSING
from midstreamer.domain.errors import (
    DeadlineExceeded,
    MidstreamerError,
    NotGranted,
    Refused,
)
from midstreamer.protocol.frames import Answer, Request
from midstreamer.telemetry import metrics

PAUSE_S = 0.05
SLOW_S = 1.0


@dataclass(frozen=True)
class Ended:
    """One request that has ended."""

    kind: str
    latency_s: float
    """From when it should have begun."""
    late_s: float
    """How much later than due it was sent."""
    error: MidstreamerError | None = None


@dataclass
class Transport:
    """What the transport of all links together came to."""

    rtt: Durations = field(default_factory=Durations)
    lost_packets: int = 0
    window_bytes: Durations = field(default_factory=Durations)
    """Congestion windows, counted in bytes."""
    links: int = 0

    def take(self, link: GeventLink) -> None:
        """Look at a link that is about to end."""
        figures = link.figures()
        if figures is not None:
            self.rtt.add(figures.rtt_s)
            self.window_bytes.add(float(figures.window_bytes))
            self.lost_packets += figures.lost_packets
            self.links += 1


class User:
    """One identity with one link, which is dialled again when it is lost."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        me = identities.user(number, crowd.plan.trust_domain)
        self._trust = identities.trust(crowd.plan.certificates, me)
        self._link: GeventLink | None = None
        self._dialling = RLock()
        self._appending = RLock()
        addresses = crowd.plan.addresses
        self._addresses = [*addresses[number % len(addresses) :], *addresses]
        self.words = Words(f"{number:05d}", crowd.plan.run, crowd.windows, crowd.specification)

    def begin(self) -> None:
        """Dial for the first time."""
        self._crowd.timed("handshake", time.monotonic(), self._dial)

    def renew(self) -> None:
        """Close the link and dial again; what is under way is asked again."""
        self.leave()
        self._crowd.timed("reconnect", time.monotonic(), self.link)

    def leave(self) -> None:
        """Close the link."""
        link, self._link = self._link, None
        if link is not None:
            self._crowd.transport.take(link)
            link.close()

    def link(self) -> GeventLink:
        """A link that takes requests: that there is, or a new one."""
        link = self._link
        if link is not None and not (link.closed or link.draining):
            return link
        with self._dialling:  # several requests may want it at the same time
            link = self._link
            if link is None or link.closed or link.draining:
                return self._dial()
            return link

    def ask(self, frame: Request, until_s: float) -> Answer:
        """Ask until there is an answer or ``until_s`` has come, as the SDK would."""
        while True:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise DeadlineExceeded(f"no answer within {self._crowd.plan.budget_s:g} s")
            try:
                return self.link().ask(frame, budget_s=left_s)
            except PASSING as error:
                self._crowd.repeats[error.code] += 1
                gevent.sleep(min(max(0.0, left_s), max(PAUSE_S, error.retry_after_s)))

    def ask_for(self, kind: str, until_s: float) -> Answer:
        """Ask for the next of a type. Ticks of one series go in order: an append waits for others.

        One that is asked again after its link was lost would else come behind a later one.
        """
        if kind != "append":
            return self.ask(self.words.frame(kind), until_s)
        with self._appending:
            return self.ask(self.words.frame(kind), until_s)

    def pause(self) -> None:
        """Read nothing for a while."""
        link = self._link
        if link is not None:
            link.pause()
            gevent.sleep(SLOW_S)
            link.resume()

    def _dial(self) -> GeventLink:
        before = self._link
        if before is not None and before.draining and not before.closed:
            gevent.spawn_later(self._crowd.plan.budget_s, before.close)  # it has answers to bring
        made = dial(self._trust, self._addresses[0])
        self._addresses.append(self._addresses.pop(0))
        made.machine.talk(time.monotonic())
        self._link = made
        return made


class Crowd:
    """All users of one process and what came of their requests."""

    def __init__(self, plan: Plan, *, ended: Callable[[Ended], None]) -> None:
        """``ended`` is called for each request."""
        self.plan = plan
        self.tallies = [Tally() for _ in plan.shape.stages]
        """One for each stage, by when a request was due."""
        self.transport = Transport()
        self.repeats: Counter[str] = Counter()
        """Attempts that had to be repeated, by the code of the error."""
        self.specification = specification()
        self.windows = windows(history(), self.specification.window)
        self.users: list[User] = []
        self.stage = 0
        self._ended = ended
        self._share = 1.0 / plan.workers
        """Of the rate, for this process."""
        self._stranger = identities.trust(plan.certificates, identities.stranger(plan.trust_domain))
        self._seed = plan.seed + plan.worker  # workers begin requests at moments of their own
        self._dice = random.Random(self._seed)
        self._running: set[gevent.Greenlet] = set()

    def join(self, number: int) -> User:
        """A new user, with its link open. MidstreamerError when it has none."""
        user = User(self, number)
        user.begin()
        self.users.append(user)
        return user

    def run(self) -> None:
        """Begin requests when they are due, until the shape has ended and all are answered."""
        plan = self.plan
        ends = _ends(plan)
        others = [gevent.spawn(self._churn), gevent.spawn(self._slow)]
        begin_s = time.monotonic()
        kinds, weights = list(plan.mix), list(plan.mix.values())
        moments = schedule.arrivals(
            plan.shape.stages, seed=self._seed, spacing=plan.spacing, share=self._share
        )
        for number, due_s in enumerate(moments):
            while self.stage < len(ends) - 1 and due_s >= ends[self.stage]:
                self.stage += 1
            self._until(begin_s + due_s)
            kind = self._dice.choices(kinds, weights)[0]
            self._begin(number, kind, begin_s + due_s)
        self._until(begin_s + ends[-1])
        gevent.killall(others)
        gevent.joinall(list(self._running), timeout=plan.budget_s + 1)

    def leave(self) -> None:
        """Close all links."""
        for user in self.users:
            user.leave()

    def timed(self, kind: str, due_s: float, ask: Callable[[], object]) -> None:
        """Do something that is a request, and count it by when it should have begun."""
        tally, sent_s = self.tallies[self.stage], time.monotonic()
        if kind in self.plan.mix:
            tally.sent(sent_s - due_s)
            metrics.LOAD_LATE_S.observe(max(0.0, sent_s - due_s))
        error: MidstreamerError | None = None
        try:
            ask()
        except MidstreamerError as failure:
            error = failure
        now_s = time.monotonic()
        if error is None:
            tally.ok(kind, latency_s=now_s - due_s, service_s=now_s - sent_s)
        else:
            tally.failed(kind, error.code)
        self._ended(Ended(kind, now_s - due_s, sent_s - due_s, error))
        if error is not None and kind == "handshake":
            raise error

    # --- inside ---

    def _until(self, when_s: float) -> None:
        left_s = when_s - time.monotonic()
        if left_s > 0:
            gevent.sleep(left_s)
        elif self._running:
            gevent.sleep(0)  # behind: still, what came is read

    def _begin(self, number: int, kind: str, due_s: float) -> None:
        if kind == "refusal" and number % 2:
            work = gevent.spawn(self.timed, kind, due_s, self._be_a_stranger)
        else:
            user = self.users[number % len(self.users)]
            ask = self._asking(user, kind)
            work = gevent.spawn(self.timed, kind, due_s, ask)
        self._keep(work)

    def _asking(self, user: User, kind: str) -> Callable[[], object]:
        def ask() -> None:
            # From now on, not from when it was due: that this generator is late fails nothing.
            until_s = time.monotonic() + self.plan.budget_s
            try:
                user.ask_for(kind, until_s)
            except NotGranted:
                if kind == "refusal":
                    return
                raise
            if kind == "refusal":
                raise MidstreamerError("an append to a universe that is not granted was taken")

        return ask

    def _be_a_stranger(self) -> None:
        until_s = time.monotonic() + self.plan.budget_s
        while True:
            try:
                link = dial(self._stranger, self._dice.choice(self.plan.addresses))
            except Refused:
                return
            except PASSING as error:  # nobody was there to refuse it
                self.repeats[error.code] += 1
                if time.monotonic() + PAUSE_S >= until_s:
                    raise
                gevent.sleep(max(PAUSE_S, error.retry_after_s))
            else:
                link.close()
                raise MidstreamerError("an identity that is on no list was let in")

    def _churn(self) -> None:
        rate = self.plan.shape.reconnects_per_s * self._share
        while rate > 0:
            gevent.sleep(self._dice.expovariate(rate))
            self._spawn(self._dice.choice(self.users).renew)

    def _slow(self) -> None:
        slow = self.users[: round(len(self.users) * self.plan.shape.slow_share)]
        while slow:
            for user in slow:
                self._spawn(user.pause)
            gevent.sleep(2 * SLOW_S)

    def _spawn(self, work: Callable[[], None]) -> None:
        self._keep(gevent.spawn(work))

    def _keep(self, work: gevent.Greenlet) -> None:
        self._running.add(work)
        work.link(self._running.discard)


def _ends(plan: Plan) -> list[float]:
    """When each stage ends, in seconds from the begin."""
    ends, at = [], 0.0
    for stage in plan.shape.stages:
        at += stage.seconds
        ends.append(at)
    return ends
