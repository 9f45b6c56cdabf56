"""Merge the findings of many agents into one Evidence for each window.  The result is the same as
if one agent had searched all shards."""

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
    """Return one Evidence for each window, merged from answers that cover every shard exactly once.

    Each answer has one Evidence for each window, over the shards that its agent searched.  The
    result depends neither on the order of the answers nor on how the shards were divided.
    """
    return [
        _merge_one(specification, window, [answer[index] for answer in answers])
        for index, window in enumerate(windows)
    ]


def _merge_one(specification: Specification, window: Window, parts: Sequence[Evidence]) -> Evidence:
    # Each agent compares the window with the stored series, but only at the points that its own
    # shards hold.  So the first difference of the whole window is the one with the smallest index.
    differing = [part for part in parts if not part.agrees]
    first = min(differing, key=lambda part: part.differs_at) if differing else None
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
