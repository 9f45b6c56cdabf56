"""Count the requests that a process works on, over all its links, for the queue metrics."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from midstreamer.telemetry import metrics


class Link(Protocol):
    """One end of a link whose requests are counted."""

    @property
    def load(self) -> tuple[int, int]:
        """(requests of the peer that are worked on now, maximum number of such requests at
        once)."""


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def watch(link: Link) -> None:
    """Count the requests of this link for as long as the link object exists."""
    _links.add(link)


def _of_all(place: int) -> Callable[[], float]:
    """Return a function that sums one value of `Link.load` over all links.

    The sum is made when metrics are scraped, because a running counter would cost time in each
    request.
    """
    return lambda: sum(link.load[place] for link in tuple(_links))


metrics.QUEUE_DEPTH.labels("requests").set_function(_of_all(0))
metrics.QUEUE_CAPACITY.labels("requests").set_function(_of_all(1))
