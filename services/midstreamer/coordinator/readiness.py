"""Whether a coordinator answers requests, and whether it could answer every one of them.

It serves once it has listened and followed the change feed of sync.  From then on it stays in DNS:
when sync is away for a moment, or an agent, it refuses by name what it cannot answer, and a client
asks again.  If one missing shard made it unready, all coordinators would leave DNS at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer.coordinator.catalogue import Catalogue
from midstreamer.coordinator.dispatcher import Dispatcher
from midstreamer.coordinator.intake import Intake
from midstreamer.runtime.follow import Follower
from midstreamer.runtime.member import Membership
from midstreamer.runtime.peer import Session
from midstreamer.telemetry import metrics


class Readiness:
    """What a probe is told."""

    def __init__(
        self,
        sync: Sequence[str],
        session: Session,
        follower: Follower,
        membership: Membership,
        intake: Intake,
        dispatcher: Dispatcher,
        catalogue: Catalogue,
    ) -> None:
        self._sync = sync
        self._session = session
        self._follower = follower
        self._membership = membership
        self._intake = intake
        self._dispatcher = dispatcher
        self._catalogue = catalogue
        self._reached = False

    def reached(self) -> None:
        """The change feed of sync has told something."""
        self._reached = True

    def serving(self, *, listens: bool, draining: bool) -> list[str]:
        """Why it neither answers requests nor refuses them by name."""
        if draining:
            return ["draining"]
        reasons = [] if listens else ["not listening yet"]
        if not self._reached:
            reasons.append(f"sync at {', '.join(self._sync)} has not been reached yet")
        return reasons

    def complete(self) -> list[str]:
        """Why some request might be refused now; counts what is held for the metrics too."""
        reasons = self.of_its_own()
        shards = self._catalogue.shards(self._catalogue.universes())
        coverage = self._dispatcher.coverage(shards)
        for state, count in coverage._asdict().items():
            metrics.SHARDS.labels(state).set(count)
        if coverage.unheld:
            first = self._dispatcher.unheld(shards)[0]
            reasons.append(
                f"{coverage.unheld} shards are held by no agent in reach, {first.series} shard"
                f" {first.number} among them"
            )
        return reasons

    def of_its_own(self) -> list[str]:
        """Those of the reasons that need no look at every shard."""
        reasons = []
        if self._session.peer is None:
            reasons.append(f"no connection to sync at {', '.join(self._sync)}")
        if not self._follower.following:
            reasons.append("the change feed is not followed")
        if not self._membership.held():
            reasons.append("no lease is held at sync")
        if self._intake.left:
            reasons.append(
                f"{self._intake.left} writes spooled before the last restart wait for sync"
            )
        return reasons
