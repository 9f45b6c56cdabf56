"""How many requests are worked on, on all links of a process."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from midstreamer.telemetry import metrics


class Link(Protocol):
    """One end of a link, as far as it is counted."""

    @property
    def load(self) -> tuple[int, int]:
        """Requests of the other side that are worked on, and how many there may be."""


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def watch(link: Link) -> None:
    """Count this link while it is open."""
    _links.add(link)


def _of_all(place: int) -> Callable[[], float]:
    """The sum over all links, counted when somebody looks: counting up and down costs each
    request something."""
    return lambda: sum(link.load[place] for link in tuple(_links))


metrics.QUEUE_DEPTH.labels("requests").set_function(_of_all(0))
metrics.QUEUE_CAPACITY.labels("requests").set_function(_of_all(1))
