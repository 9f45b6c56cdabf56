"""Leases: those of the peers, which they renew here, and that of this process.

Sync is a member too.  It has no sync to renew at, so it renews in the store.  Every change that
others must know goes into the change feed; whoever renews is told the members in the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Member
from midstreamer.runtime.lifecycle import Stage
from midstreamer.runtime.peer import Peer
from midstreamer.store.ports import FleetView, Store
from midstreamer.sync import leases, members
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.feed import Feed
from midstreamer.telemetry import logs, metrics

log = logs.get(__name__)

LISTED = (Kind.AGENT, Kind.COORDINATOR, Kind.SYNC)


class Fleet:
    """The members, as this process knows them."""

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
        """``me``: the name of this process; ``describe``: its lease as it stands.

        ``drain`` is called when this process is asked to drain.
        """
        self._config = config
        self._store = store
        self._feed = feed
        self._me = me
        self._describe = describe
        self._drain = drain
        self._view = FleetView(0, (), changed=False)
        self._joining: set[str] = set()
        """Members whose lease is being written."""
        self._left = False

    def visible(self, peer: Peer) -> tuple[Member, ...]:
        """The members that a peer is told of."""
        return members.visible(self._view.members, peer.capabilities)

    def others(self) -> bool:
        """Whether another sync serves."""
        return members.others(self._view.members, self._me)

    async def renew(self, peer: Peer, renew: frames.Renew) -> frames.Fleet:
        """Take or renew a peer's lease, or give it back."""
        name = peer.identity.name
        if renew.leaving:
            view = self._tell(await self._store.leave(name))
        else:
            certified = {"name": name, "incarnation": peer.incarnation}
            member = msgspec.structs.replace(renew.member, **certified)
            view = await self._lease(member, peer.capabilities)
        return frames.Fleet(
            position=view.position,
            members=members.visible(view.members, peer.capabilities),
            lease_s=self._config.lease_s,
            shard_points=self._config.shard_points,
            drain=view.drain,
        )

    async def _lease(self, member: Member, capabilities: frozenset[str]) -> FleetView:
        held = {one.name for one in self._view.members} | self._joining
        leases.check(member, held, members_max=self._config.members_max, capabilities=capabilities)
        self._joining.add(member.name)
        try:
            return self._tell(await self._store.renew(member, self._config.lease_s))
        finally:
            self._joining.discard(member.name)

    async def retire(self, name: str) -> frames.Retired:
        """Ask a member to drain; it hears of it when it renews."""
        member = await self._store.retire(name)
        if member is None:
            raise members.unknown(name, self._view.members)
        log.info("member.asked_to_drain", member=name)
        if name == self._me:
            await self.renew_own()
        stage = member.evidence.get("stage", "")
        return frames.Retired(position=self._feed.position, name=name, stage=stage)

    # --- the lease of this process ---

    async def renew_own(self) -> None:
        """Say where this process stands, unless it has left."""
        if self._left:
            return
        member = self._describe()
        view = self._tell(await self._store.renew(member, self._config.lease_s))
        if view.drain and member.evidence.get("stage") != Stage.DRAINING:
            self._drain()

    async def leave(self) -> None:
        """Give the lease of this process back."""
        self._left = True
        self._tell(await self._store.leave(self._me))

    async def expire(self) -> None:
        """Let leases run out."""
        self._tell(await self._store.expire())

    def _tell(self, view: FleetView) -> FleetView:
        if view.changed:
            self._feed.publish(view.position - 1, [frames.Joined(view.members)])
        self._view = view
        kinds = [member.name.partition("/")[0] for member in view.members]
        for kind in LISTED:
            metrics.MEMBERS.labels(kind).set(kinds.count(kind))
        return view
