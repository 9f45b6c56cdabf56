"""The probes of a coordinator: whether it is serving, and whether it is complete.

A coordinator is serving once it listens and follows the change feed of sync.  It then stays in DNS
even while sync or an agent is unreachable.  A request that it cannot answer gets an error with a
code, and the client retries.  If one missing shard made a coordinator unready, all coordinators
would leave DNS at the same time.  A coordinator is complete when nothing that it needs is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer.coordinator.dispatch_io import Dispatcher
from midstreamer.coordinator.intake import Intake
from midstreamer.coordinator.store_mirror import Catalogue
from midstreamer.runtime.feed_following import Follower
from midstreamer.runtime.fleet_member import Membership
from midstreamer.runtime.peer import Session
from midstreamer.telemetry import metrics


class Readiness:
    """Gives the reasons why a coordinator is not serving or not complete."""

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
        """Record that the change feed of sync has delivered its first changes."""
        self._reached = True

    def serving(self, *, listens: bool, draining: bool) -> list[str]:
        """Return the reasons why this coordinator is not serving; an empty list when it is."""
        if draining:
            return ["draining"]
        reasons = [] if listens else ["not listening yet"]
        if not self._reached:
            reasons.append(f"sync at {', '.join(self._sync)} has not been reached yet")
        return reasons

    def complete(self) -> list[str]:
        """Return the reasons why this coordinator is not complete; an empty list when it is.

        While a coordinator is not complete, some requests may fail.  This method also updates the
        metric of held shards.
        """
        reasons = self.of_its_own()
        shards = self._catalogue.shards(self._catalogue.universes())
        coverage = self._dispatcher.coverage(shards)
        for state, count in coverage._asdict().items():
            metrics.SHARDS.labels(state).set(count)
        if coverage.unheld:
            first = self._dispatcher.unheld(shards)[0]
            reasons.append(
                f"{coverage.unheld} shards are held by no connected agent, {first.series} shard"
                f" {first.number} among them"
            )
        return reasons

    def of_its_own(self) -> list[str]:
        """Return only those reasons of `complete` that concern this process itself, and not the
        shards.  So this method avoids the costly check of every shard."""
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
