"""What a coordinator keeps in memory of the store: series, members and the feed position.  All
these data come from sync.  At the start sync sends a list of all series, and the change feed then
keeps the list current.  The feed may bring points that the list has counted already.  They have no
effect, because each change names the position of its points in their series.
`coordinator.states` caches the learning states.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from midstreamer.domain.identity import Kind
from midstreamer.domain.series import universe_of
from midstreamer.domain.shard import Shard, shards_of
from midstreamer.protocol.frames import (
    PLACES_MAX,
    Change,
    Joined,
    Learned,
    Member,
    Place,
    Points,
    SeriesSummary,
    Skipped,
    Surveyed,
)
from midstreamer.runtime import catalogue_pages
from midstreamer.runtime.lease_evidence import where

LENGTHS_MAX = 16
"""Maximum number of results of `Catalogue.searchable` that are cached for one universe: one result
for each window length."""


class Catalogue:
    """All series and members as of ``position`` in the change feed, and counts of stored data."""

    def __init__(self) -> None:
        self.position = -1
        """Position of the change feed; -1 before the first change."""
        self.shard_points = 0
        """Number of window positions in one shard; 0 until sync has sent the list of series."""
        self.members: tuple[Member, ...] = ()
        self.counts: tuple[int, int, int] = (0, 0, 0)
        """Numbers of stored decisions, verdicts and ticks, when sync last sent the list of
        series."""
        self._series: dict[str, SeriesSummary] = {}
        self._universes: dict[str, set[str]] = {}
        self._names: list[str] | None = None
        """Cached names of all series, sorted; None after a series was added."""
        self._shards: dict[str, list[Shard]] = {}
        """A cache: for each universe, the list of all its shards.  The list is dropped when the
        universe gets a new shard."""
        self._longest: dict[str, SeriesSummary] = {}
        """For each universe, the series with the most points."""
        self._searchable: dict[str, dict[int, list[Shard]]] = {}
        """A cache: for each universe and each window length, the list of the shards in which at
        least one window of that length begins.  The lists of a universe are dropped when the
        universe gets new points."""

    def clear(self) -> None:
        """Drop all series and the position, because changes of the feed were missed."""
        self.position = -1
        self._series.clear()
        self._universes.clear()
        self._names = None
        self._shards.clear()
        self._longest.clear()
        self._searchable.clear()

    # --- coming in ---

    def surveyed(self, survey: Surveyed, *, first: bool = True) -> None:
        """Apply one page of the list of series that sync has sent.  Newer changes that the feed has
        brought already are kept."""
        if self.shard_points != survey.shard_points:
            self.shard_points = survey.shard_points
            self._shards.clear()
            self._searchable.clear()
        if first:
            self.counts = (survey.decisions, survey.verdicts, survey.ticks)
            self.members = survey.members or self.members
        for summary in survey.series:
            self._learn_of(summary)

    def apply(self, changes: Iterable[Change], position: int) -> None:
        """Apply committed changes of the feed, in the order of the feed, up to ``position``."""
        for change in changes:
            match change:
                case Points():
                    self._points(change)
                case Learned():
                    pass  # a new learning state: `coordinator.states` applies it
                case Joined(members):
                    self.members = members
                case Skipped():
                    pass  # this version does not know this kind of change
        self.position = max(self.position, position)

    def _points(self, change: Points) -> None:
        column = change.column
        if not len(column):
            return
        times, values = column.times_array(), column.values_array()
        known = self._series.get(column.series)
        first = int(times[0]) if known is None or change.start == 0 else known.first_time
        self._learn_of(
            SeriesSummary(
                column.series,
                change.start + len(column),
                first,
                int(times[-1]),
                float(values[-1]),
            )
        )

    def _learn_of(self, summary: SeriesSummary) -> None:
        known = self._series.get(summary.series)
        if known is not None and summary.count <= known.count:
            return
        self._series[summary.series] = summary
        universe = universe_of(summary.series)
        if known is None:
            self._names = None
            self._universes.setdefault(universe, set()).add(summary.series)
        if known is None or self._length(known) < self._length(summary):
            self._shards.pop(universe, None)
        self._searchable.pop(universe, None)
        longest = self._longest.get(universe)
        if longest is None or summary.count >= longest.count:
            self._longest[universe] = summary

    def _length(self, summary: SeriesSummary) -> int:
        return -(-summary.count // self.shard_points) if self.shard_points else 0

    # --- going out ---

    def series(self, name: str) -> SeriesSummary | None:
        """Return the summary of a series; None when no tick of it is stored."""
        return self._series.get(name)

    def universe(self, name: str) -> list[SeriesSummary]:
        """Return the series of a universe, sorted by name."""
        return [self._series[series] for series in sorted(self._universes.get(name, ()))]

    def universes(self) -> list[str]:
        """Return the universes that have stored ticks, sorted by name."""
        return sorted(self._universes)

    def shards(self, universes: Sequence[str]) -> list[Shard]:
        """Return all shards of these universes."""
        return [shard for universe in universes for shard in self._shards_of(universe)]

    def _shards_of(self, universe: str) -> list[Shard]:
        if universe not in self._shards:
            self._shards[universe] = [
                shard
                for summary in self.universe(universe)
                for shard in shards_of(summary.series, summary.count, self.shard_points)
            ]
        return self._shards[universe]

    def longest(self, universe: str) -> SeriesSummary | None:
        """Return the series of a universe with the most points; None without stored ticks."""
        return self._longest.get(universe)

    def searchable(self, universe: str, window: int, own: Iterable[str] = ()) -> list[Shard]:
        """Return the shards to search for windows of ``window`` points.

        A shard in which no window of that length begins holds no analog and is left out.  This
        matters in a universe with, say, 50,000 series that are shorter than the window.

        ``own`` are the series that the windows of the request name.  All their shards are returned
        too, because the agents that hold them check whether the windows equal the stored points.
        """
        kept = self._searchable.setdefault(universe, {})
        if window not in kept:
            if len(kept) >= LENGTHS_MAX:
                kept.clear()
            kept[window] = [each for each in self._shards_of(universe) if self._fits(each, window)]
        known = [summary for name in set(own) if (summary := self._series.get(name)) is not None]
        return kept[window] + [
            shard
            for summary in known
            for shard in shards_of(summary.series, summary.count, self.shard_points)
            if not self._fits(shard, window)
        ]

    def _fits(self, shard: Shard, window: int) -> bool:
        count = self._series[shard.series].count
        return shard.first(self.shard_points) + window <= count

    def coordinators(self, *, outside: bool = False) -> tuple[Place, ...]:
        """Return the addresses of the coordinators that are not draining, at most `PLACES_MAX`.

        With ``outside``, return the addresses for clients outside the network of the fleet.
        """
        serving = [
            Place(m.name, address)
            for m in self.members
            if m.name.startswith(f"{Kind.COORDINATOR}/")
            and not m.draining
            and (address := where(m, outside=outside))
        ]
        return tuple(serving[:PLACES_MAX])

    def agents(self) -> list[Member]:
        """Return the agents that hold a lease."""
        return [m for m in self.members if m.name.startswith(f"{Kind.AGENT}/")]

    def survey(self, after: str = "") -> Surveyed:
        """Return one page of the catalogue as a Surveyed frame: the series after the name
        ``after``.  Only the first page, with an empty ``after``, has members and counts."""
        if self._names is None:
            self._names = sorted(self._series)
        begin = bisect_right(self._names, after)
        rest = self._names[begin : begin + catalogue_pages.PAGE_SERIES]
        page = catalogue_pages.cut([self._series[name] for name in rest])
        more = begin + len(page) < len(self._names)
        answer = Surveyed(
            series=page,
            shard_points=self.shard_points,
            position=max(self.position, 0),
            more=more,
        )
        if after:
            return answer
        decisions, verdicts, ticks = self.counts
        return msgspec.structs.replace(
            answer, members=self.members, decisions=decisions, verdicts=verdicts, ticks=ticks
        )
