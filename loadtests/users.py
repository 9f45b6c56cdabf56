"""Users of a load test under gevent: each has an identity and a link of its own.

`Crowd` starts each request at its planned time, with the next user in turn, and does not wait for
answers.  If a link drains or is lost, the user dials again and retries the request within its
budget, as the SDK does.  If a retry succeeds, no failure is counted.  The latency includes the
retries.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.lock import RLock

from loadtests import identities, start_times
from loadtests.gevent_link import GeventLink, dial
from loadtests.load_plan import Plan
from loadtests.result_counts import Durations, Tally
from loadtests.user_requests import Words, history, specification, windows
from midstreamer.client.request_retries import PASSING
from midstreamer.domain.errors import (
    DeadlineExceeded,
    MidstreamerError,
    NotGranted,
    Refused,
)
from midstreamer.protocol.frames import Answer, Request

PAUSE_S = 0.05
"""Shortest wait in seconds before a retry."""
SLOW_S = 1.0
"""Seconds for which a slow user stops reading."""


@dataclass(frozen=True)
class Ended:
    """Result of a request: type, latency, how late it was sent, and the error if it failed."""

    kind: str
    latency_s: float
    """Seconds from the planned start to the end."""
    late_s: float
    """Seconds from the planned start to the sending."""
    error: MidstreamerError | None = None


@dataclass
class Transport:
    """Transport measurements of all links together."""

    rtt: Durations = field(default_factory=Durations)
    lost_packets: int = 0
    window_bytes: Durations = field(default_factory=Durations)
    """Congestion windows of the links, in bytes."""
    links: int = 0

    def take(self, link: GeventLink) -> None:
        """Add the measurements of a link; called before the link is closed."""
        figures = link.figures()
        if figures is not None:
            self.rtt.add(figures.rtt_s)
            self.window_bytes.add(float(figures.window_bytes))
            self.lost_packets += figures.lost_packets
            self.links += 1


class User:
    """An identity with one link, which is dialled again if it is lost."""

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
        """Open the first link, and count this as a handshake."""
        self._crowd.timed("handshake", time.monotonic(), self._dial)

    def renew(self) -> None:
        """Close the link and open a new one; requests in flight are retried."""
        self.leave()
        self._crowd.timed("reconnect", time.monotonic(), self.link)

    def leave(self) -> None:
        """Close the user's link, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            self._crowd.transport.take(link)
            link.close()

    def link(self) -> GeventLink:
        """Return a link that accepts requests: the current link, or a new one."""
        link = self._link
        if link is not None and not (link.closed or link.draining):
            return link
        # Several requests may need a new link at the same time; only one of them dials.
        with self._dialling:
            link = self._link
            if link is None or link.closed or link.draining:
                return self._dial()
            return link

    def ask(self, frame: Request, until_s: float) -> Answer:
        """Send a request and return its answer; retry until ``until_s``, as the SDK does.

        Raise DeadlineExceeded at ``until_s``, and errors that a retry cannot mend.
        """
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
        """Send the next request of a type and return its answer.

        Appends of one user are sent one at a time, because the ticks of a series must arrive in
        order.  Otherwise a retry after a lost link could arrive after a later append.
        """
        if kind != "append":
            return self.ask(self.words.frame(kind), until_s)
        with self._appending:
            return self.ask(self.words.frame(kind), until_s)

    def pause(self) -> None:
        """Stop reading for `SLOW_S` seconds."""
        link = self._link
        if link is not None:
            link.pause()
            gevent.sleep(SLOW_S)
            link.resume()

    def _dial(self) -> GeventLink:
        before = self._link
        if before is not None and before.draining and not before.closed:
            # Close the old link later, because requests on it may still be answered.
            gevent.spawn_later(self._crowd.plan.budget_s, before.close)
        link = dial(self._trust, self._addresses[0])
        self._addresses.append(self._addresses.pop(0))
        link.machine.talk(time.monotonic())
        self._link = link
        return link


class Crowd:
    """All users of one process, and the results of their requests."""

    def __init__(self, plan: Plan, *, ended: Callable[[Ended], None]) -> None:
        """Prepare a crowd without users; ``ended`` is called with the result of each request."""
        self.plan = plan
        self.tallies = [Tally() for _ in plan.shape.stages]
        """For each stage, a tally of the requests whose planned start lies in the stage."""
        self.transport = Transport()
        self.repeats: Counter[str] = Counter()
        """Number of retries of requests, by the error code that caused the retry."""
        self.specification = specification()
        self.windows = windows(history(), self.specification.window)
        self.users: list[User] = []
        self.stage = 0
        self._ended = ended
        self._share = 1.0 / plan.workers
        """The part of the plan's rate that this process sends, 0 to 1."""
        self._stranger = identities.trust(plan.certificates, identities.stranger(plan.trust_domain))
        self._seed = plan.seed + plan.worker  # each worker has its own start times
        self._dice = random.Random(self._seed)
        self._running: set[gevent.Greenlet] = set()

    def join(self, number: int) -> User:
        """Add a user and open its link; raise MidstreamerError if the link does not open."""
        user = User(self, number)
        user.begin()
        self.users.append(user)
        return user

    def run(self) -> None:
        """Start the requests of the shape at their times, and wait until all have ended."""
        plan = self.plan
        ends = _ends(plan)
        others = [gevent.spawn(self._churn), gevent.spawn(self._slow)]
        begin_s = time.monotonic()
        kinds, weights = list(plan.mix), list(plan.mix.values())
        moments = start_times.arrivals(
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
        """Close the links of all users."""
        for user in self.users:
            user.leave()

    def timed(self, kind: str, due_s: float, ask: Callable[[], object]) -> None:
        """Call ``ask``, and count it as a request of this type whose planned start is ``due_s``."""
        tally, sent_s = self.tallies[self.stage], time.monotonic()
        if kind in self.plan.mix:
            tally.sent(sent_s - due_s)
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
            # The generator is late; this pause lets the links read their datagrams.
            gevent.sleep(0)

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
            # The deadline counts from now, so that a late generator does not make requests fail.
            until_s = time.monotonic() + self.plan.budget_s
            try:
                user.ask_for(kind, until_s)
            except NotGranted:
                if kind == "refusal":
                    return
                raise
            if kind == "refusal":
                raise MidstreamerError(
                    "the fleet accepted an append to a universe that is not granted"
                )

        return ask

    def _be_a_stranger(self) -> None:
        until_s = time.monotonic() + self.plan.budget_s
        while True:
            try:
                link = dial(self._stranger, self._dice.choice(self.plan.addresses))
            except Refused:
                return
            except PASSING as error:
                # The coordinator was not reached, or was too busy to check the identity.  So dial
                # again, until a coordinator refuses the identity.
                self.repeats[error.code] += 1
                if time.monotonic() + PAUSE_S >= until_s:
                    raise
                gevent.sleep(max(PAUSE_S, error.retry_after_s))
            else:
                link.close()
                raise MidstreamerError("the fleet accepted an identity that is on no allowlist")

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
    """Return the end of each stage, in seconds from the start of the shape."""
    ends, at = [], 0.0
    for stage in plan.shape.stages:
        at += stage.seconds
        ends.append(at)
    return ends
