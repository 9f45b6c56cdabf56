"""Many agents' findings to one Evidence for each window: sharding is invisible in the result."""

from __future__ import annotations

from collections.abc import Sequence

from midstreamer.domain import match
from midstreamer.domain.decision import Evidence
from midstreamer.domain.series import Window
from midstreamer.domain.specification import Specification


def merge(
    specification: Specification,
    windows: Sequence[Window],
    answers: Sequence[Sequence[Evidence]],
) -> list[Evidence]:
    """One Evidence for each window, of answers that together cover every shard once.

    Each answer has one Evidence for each window, over its own shards.  The result depends
    neither on their order nor on how the shards were divided.
    """
    return [
        _merge_one(specification, window, [answer[place] for answer in answers])
        for place, window in enumerate(windows)
    ]


def _merge_one(specification: Specification, window: Window, parts: Sequence[Evidence]) -> Evidence:
    # Each speaks of the part of the window it holds: the first of all is that of the whole.
    apart = [part for part in parts if not part.agrees]
    first = min(apart, key=lambda part: part.differs_at) if apart else None
    return Evidence(
        specification=specification,
        window=window,
        matches=match.merge([part.matches for part in parts], specification.neighbours),
        index=max((part.index for part in parts), default=-1),
        newest=all(part.newest for part in parts),
        ups=sum(part.ups for part in parts),
        known=sum(part.known for part in parts),
        kernel="+".join(sorted({part.kernel for part in parts if part.kernel})),
        agrees=first is None,
        differs_at=first.differs_at if first else -1,
        stored=first.stored if first else None,
    )
