"""Open links that a server accepted, and one task for each that runs the application's handler.

The servers of several carriers may share one `OpenLinks`: the limits then hold for all their links
together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any

from midstreamer.domain.errors import MidstreamerError, Overloaded, Refused, Unavailable
from midstreamer.domain.identity import Identity
from midstreamer.security import admission
from midstreamer.security.refusal_reasons import Reason
from midstreamer.telemetry import label_values, logs, metrics
from midstreamer.transport.carrier import Limits, OnLink
from midstreamer.transport.framed_link import FramedLink

log = logs.get(__name__)

NOT_JUDGED = "not_judged"
RETRY_AFTER_S = 1.0
CLOSE_TIMEOUT_S = 1.0
"""Seconds that a closing server waits for the tasks of its links, before it cancels them."""


def refused(peer: str, refusal: MidstreamerError) -> None:
    """Count and log that a peer was refused."""
    reason = refusal.reason if isinstance(refusal, Refused) else refusal.code
    # The reason may come from the peer, which can send any word. If it sent "accepted", the metric
    # would count an accepted handshake. So every unknown word is counted as `OTHER`.
    metrics.HANDSHAKES.labels(
        reason if reason in label_values.REFUSALS else label_values.OTHER
    ).inc()
    log.warning("peer.refused", peer=peer, reason=reason, detail=refusal.message)


class OpenLinks:
    """The open links of one or several servers, and the task that serves each link."""

    def __init__(self, on_link: OnLink) -> None:
        self.links: dict[FramedLink, object] = {}
        """The open links, each with the server that accepted it."""
        self.arriving: dict[Hashable, Identity] = {}
        """Admitted peers that have no link yet, by connection. They count toward the limits,
        because a peer could else begin many connections, complete them later and exceed the
        limits."""
        self._on_link = on_link
        self._tasks: dict[FramedLink, asyncio.Task[None]] = {}
        self.full = False
        """True: no new link is accepted, because this process is about to stop."""

    def require_room(self, identity: Identity, limits: Limits) -> None:
        """Raise Refused if the peer has too many links, Overloaded if the server has no room."""
        if self.full:
            raise Overloaded(
                f"{Overloaded.code}: this process is about to stop: dial another, or retry later",
                retry_after_s=RETRY_AFTER_S,
            )
        present = [*(link.peer for link in self.links), *self.arriving.values()]
        own, own_max = present.count(identity), limits.links_per_identity_max
        if own >= own_max:
            raise admission.refused(
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
        """Add the link of an admitted peer, start its handshake and a task that serves it."""
        self.links[link] = server
        self._spawn(link, self._serve(link))
        link.start()

    async def close(self, server: object) -> None:
        """Close the links of one server; wait up to `CLOSE_TIMEOUT_S` for their tasks to end."""
        closing = [link for link, by in self.links.items() if by is server]
        waiting = {self._tasks[link] for link in closing} - {asyncio.current_task()}
        for link in closing:
            await link.close()
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=CLOSE_TIMEOUT_S)
            for task in late:
                task.cancel()

    async def _serve(self, link: FramedLink) -> None:
        try:
            await link.opened()
            metrics.HANDSHAKES.labels(label_values.ACCEPTED).inc()
            await self._on_link(link)
        except Refused as refusal:
            refused(link.peer.name, refusal)
        except Unavailable as gone:
            log.debug("link.ended", peer=link.peer.name, detail=gone.message)
        except Exception:
            log.exception("link.failed", peer=link.peer.name)
        finally:
            self.links.pop(link, None)
            self._tasks.pop(link, None)
            await link.close()

    def _spawn(self, link: FramedLink, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[link] = task


def reconsider(links: Iterable[FramedLink], judge: Callable[[FramedLink], None]) -> None:
    """Call ``judge`` for each open link; close the link if ``judge`` raises Refused or fails."""
    for link in list(links):
        if link.closed.is_set():
            continue  # the link has ended, but its task has not noticed yet
        try:
            judge(link)
        except Refused as refusal:
            log.warning("peer.removed", peer=link.peer.name, reason=refusal.reason)
            link.end(refusal.reason, refusal.message)
        except Exception:
            # A failing check must not keep a link open, nor stop the check of the other links.
            log.exception("peer.removed", peer=link.peer.name, reason=NOT_JUDGED)
            link.end(NOT_JUDGED, "an internal error prevented the check of the peer's certificate")
