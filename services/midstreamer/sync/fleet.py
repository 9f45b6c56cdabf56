"""The leases of all members of the fleet: agents, coordinators and syncs.

Agents and coordinators renew their leases by a Renew request to sync.  Sync is a member too and
renews its own lease in the store.  A change of the members goes into the change feed, and each
answer to a Renew contains the list of members.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Member
from midstreamer.runtime.lifecycle import Stage
from midstreamer.runtime.peer import Peer
from midstreamer.store.store_interface import FleetView, Store
from midstreamer.sync import lease_limits, visible_members
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.feed import Feed
from midstreamer.telemetry import logs, metrics

log = logs.get(__name__)

LISTED = (Kind.AGENT, Kind.COORDINATOR, Kind.SYNC)
"""Kinds of members. The metric `metrics.MEMBERS` shows the number of members of each kind."""


class Fleet:
    """The members of the fleet as this process knows them, and its own lease."""

    def __init__(
        self,
        config: SyncSettings,
        store: Store,
        feed: Feed,
        *,
        me: str,
        describe: Callable[[], Member],
        drain: Callable[[], None],
    ) -> None:
        """Keep the leases in ``store``.

        ``me`` is the name of this process.  ``describe`` returns the present content of this
        process's lease.  ``drain`` is called when a Retire request has asked it to drain.
        """
        self._config = config
        self._store = store
        self._feed = feed
        self._me = me
        self._describe = describe
        self._drain = drain
        self._view = FleetView(0, (), changed=False)
        self._joining: set[str] = set()
        """Names of members whose lease is being written to the store."""
        self._left = False

    def visible(self, peer: Peer) -> tuple[Member, ...]:
        """Return the members that a peer may see, by its capabilities."""
        return visible_members.visible(self._view.members, peer.capabilities)

    def others(self) -> bool:
        """Return whether another sync is serving."""
        return visible_members.others(self._view.members, self._me)

    async def renew(self, peer: Peer, renew: frames.Renew) -> frames.Fleet:
        """Renew the lease of a peer, or delete it if the peer is leaving.

        Raise BadInput or Overloaded when the peer may not have a lease (`lease_limits.check`).
        """
        name = peer.identity.name
        if renew.leaving:
            view = self._tell(await self._store.leave(name))
        else:
            certified = {"name": name, "incarnation": peer.incarnation}
            member = msgspec.structs.replace(renew.member, **certified)
            view = await self._lease(member, peer.capabilities)
        return frames.Fleet(
            position=view.position,
            members=visible_members.visible(view.members, peer.capabilities),
            lease_s=self._config.lease_s,
            shard_points=self._config.shard_points,
            drain=view.drain,
        )

    async def _lease(self, member: Member, capabilities: frozenset[str]) -> FleetView:
        held = {holder.name for holder in self._view.members} | self._joining
        lease_limits.check(
            member, held, members_max=self._config.members_max, capabilities=capabilities
        )
        self._joining.add(member.name)
        try:
            return self._tell(await self._store.renew(member, self._config.lease_s))
        finally:
            self._joining.discard(member.name)

    async def retire(self, name: str) -> frames.Retired:
        """Ask a member to drain; the member learns it from the answer to its next renewal.

        Raise BadInput when the member holds no lease.
        """
        member = await self._store.retire(name)
        if member is None:
            raise visible_members.unknown(name, self._view.members)
        log.info("member.asked_to_drain", member=name)
        if name == self._me:
            await self.renew_own()
        stage = member.evidence.get("stage", "")
        return frames.Retired(position=self._feed.position, name=name, stage=stage)

    # --- `renew_own` and `leave` handle the lease of this process itself. ---

    async def renew_own(self) -> None:
        """Renew the lease of this process, and start its drain if a Retire has asked for that.

        Do nothing after `leave`.
        """
        if self._left:
            return
        member = self._describe()
        view = self._tell(await self._store.renew(member, self._config.lease_s))
        if view.drain and member.evidence.get("stage") != Stage.DRAINING:
            self._drain()

    async def leave(self) -> None:
        """Delete the lease of this process and never renew it again."""
        self._left = True
        self._tell(await self._store.leave(self._me))

    async def expire(self) -> None:
        """Remove the members whose leases have expired."""
        self._tell(await self._store.expire())

    def _tell(self, view: FleetView) -> FleetView:
        if view.changed:
            self._feed.publish(view.position - 1, [frames.Joined(view.members)])
        self._view = view
        kinds = [member.name.partition("/")[0] for member in view.members]
        for kind in LISTED:
            metrics.MEMBERS.labels(kind).set(kinds.count(kind))
        return view
