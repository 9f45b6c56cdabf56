"""The links that a process takes: welcomed, attended by a task each, and seen off.

Servers of several carriers may share one open_links: the bounds hold for all their links together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any

from midstreamer.domain.errors import MidstreamerError, Overloaded, Refused, Unavailable
from midstreamer.domain.identity import Identity
from midstreamer.security import decide
from midstreamer.security.reasons import Reason
from midstreamer.telemetry import logs, metrics, words
from midstreamer.transport.carrier import Limits, OnLink
from midstreamer.transport.framed import FramedLink

log = logs.get(__name__)

NOT_JUDGED = "not_judged"
RETRY_AFTER_S = 1.0
FAREWELL_S = 1.0
"""How long a closing server waits for those who attend its links."""


def refused(peer: str, refusal: MidstreamerError) -> None:
    """Count and log that somebody was turned away."""
    reason = refusal.reason if isinstance(refusal, Refused) else refusal.code
    # The peer may have sent this word: "accepted" from it must not count as an accepted handshake.
    metrics.HANDSHAKES.labels(reason if reason in words.REFUSALS else words.OTHER).inc()
    log.warning("peer.refused", peer=peer, reason=reason, detail=refusal.message)


class OpenLinks:
    """Open links and the tasks that attend them."""

    def __init__(self, on_link: OnLink) -> None:
        self.links: dict[FramedLink, object] = {}
        """Those attended now, and the server that each came by."""
        self.arriving: dict[Hashable, Identity] = {}
        """Who was judged and has no link yet, by the connection. They count too: else one peer
        could be judged on many connections, and only then finish them all."""
        self._on_link = on_link
        self._attending: dict[FramedLink, asyncio.Task[None]] = {}
        self.full = False
        """Nobody new is taken any more."""

    def require_room(self, identity: Identity, limits: Limits) -> None:
        """Refuse a judged peer beyond its own share of links, and anybody beyond all of them."""
        if self.full:
            raise Overloaded(
                f"{Overloaded.code}: this process is about to stop: ask another, or again later",
                retry_after_s=RETRY_AFTER_S,
            )
        present = [*(link.peer for link in self.links), *self.arriving.values()]
        own, own_max = present.count(identity), limits.links_per_identity_max
        if own >= own_max:
            raise decide.refused(
                Reason.TOO_MANY_LINKS,
                f"{identity.name} has {own} links here, links_per_identity_max={own_max}:"
                " close one, or use another identity",
            )
        if len(present) >= limits.links_max:
            raise Overloaded(
                f"{Overloaded.code}: {len(present)} links are open, links_max={limits.links_max}",
                retry_after_s=RETRY_AFTER_S,
            )

    def welcome(self, link: FramedLink, server: object) -> None:
        """Take in a link whose peer was judged; its handshake is awaited from now on."""
        self.links[link] = server
        self._spawn(link, self._attend(link))
        link.start()

    async def close(self, server: object) -> None:
        """Close the links that came by a server, and let those who attend them end."""
        closing = [link for link, by in self.links.items() if by is server]
        waiting = {self._attending[link] for link in closing} - {asyncio.current_task()}
        for link in closing:
            await link.close()
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=FAREWELL_S)
            for task in late:
                task.cancel()

    async def _attend(self, link: FramedLink) -> None:
        try:
            await link.opened()
            metrics.HANDSHAKES.labels(words.ACCEPTED).inc()
            await self._on_link(link)
        except Refused as refusal:
            refused(link.peer.name, refusal)
        except Unavailable as gone:
            log.debug("link.ended", peer=link.peer.name, detail=gone.message)
        except Exception:
            log.exception("link.failed", peer=link.peer.name)
        finally:
            self.links.pop(link, None)
            self._attending.pop(link, None)
            await link.close()

    def _spawn(self, link: FramedLink, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._attending[link] = task


def reconsider(links: Iterable[FramedLink], judge: Callable[[FramedLink], None]) -> None:
    """Judge open links again; close those that would now be refused."""
    for link in list(links):
        if link.closed.is_set():
            continue  # it ended, and whoever attends it has not noticed yet
        try:
            judge(link)
        except Refused as refusal:
            log.warning("peer.removed", peer=link.peer.name, reason=refusal.reason)
            link.end(refusal.reason, refusal.message)
        except Exception:
            # Nobody stays because judging failed, and the other links are judged all the same.
            log.exception("peer.removed", peer=link.peer.name, reason=NOT_JUDGED)
            link.end(NOT_JUDGED, "the peer could not be judged")
