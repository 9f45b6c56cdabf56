"""What a coordinator knows without asking: series, members, feed position.

Everything comes from sync: a survey lays the ground, the change feed keeps it current.  Points
carry absolute positions, so a change that the survey had already counted changes nothing.  The
learning states, which may be many, are kept apart: see `coordinator.states`.
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
from midstreamer.runtime import surveying
from midstreamer.runtime.evidence import where

LENGTHS_MAX = 16
"""Window lengths for which the shards of a universe are kept."""


class Catalogue:
    """The coordinator's picture of everything, at ``position``."""

    def __init__(self) -> None:
        self.position = -1
        self.shard_points = 0
        self.members: tuple[Member, ...] = ()
        self.counts: tuple[int, int, int] = (0, 0, 0)
        """Decisions, verdicts and ticks stored, as the last first page told."""
        self._series: dict[str, SeriesSummary] = {}
        self._universes: dict[str, set[str]] = {}
        self._names: list[str] | None = None
        """All series in order; None until somebody asks, since one was added."""
        self._shards: dict[str, list[Shard]] = {}
        """Of each universe, until a shard is added to it."""
        self._longest: dict[str, SeriesSummary] = {}
        """Of each universe, the series with the most points."""
        self._searchable: dict[str, dict[int, list[Shard]]] = {}
        """Of each universe by window length, until the universe grows."""

    def clear(self) -> None:
        """Forget everything: changes were missed."""
        self.position = -1
        self._series.clear()
        self._universes.clear()
        self._names = None
        self._shards.clear()
        self._longest.clear()
        self._searchable.clear()

    # --- coming in ---

    def surveyed(self, survey: Surveyed, *, first: bool = True) -> None:
        """Take a page of a survey in; what the feed has told meanwhile is kept."""
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
        """Take committed changes in, in order."""
        for change in changes:
            match change:
                case Points():
                    self._points(change)
                case Learned():
                    pass  # `coordinator.states` takes it
                case Joined(members):
                    self.members = members
                case Skipped():
                    pass  # of a newer version
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
        """What is known of a series."""
        return self._series.get(name)

    def universe(self, name: str) -> list[SeriesSummary]:
        """The series of a universe, by name."""
        return [self._series[series] for series in sorted(self._universes.get(name, ()))]

    def universes(self) -> list[str]:
        """The universes of which something is stored."""
        return sorted(self._universes)

    def shards(self, universes: Sequence[str]) -> list[Shard]:
        """Every shard of these universes."""
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
        """The series of a universe with the most points; None when nothing is stored of it."""
        return self._longest.get(universe)

    def searchable(self, universe: str, window: int, own: Iterable[str] = ()) -> list[Shard]:
        """The shards that a search for windows of a length must ask.

        A shard in which no window of the length begins is left out, because it holds no analog:
        50,000 series shorter than the window would keep everybody waiting.  All shards of the
        ``own`` series are asked, because they tell whether a window is what is stored.
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
        """Where coordinators serve that do not drain; ``outside``: as seen from there."""
        serving = [
            Place(m.name, address)
            for m in self.members
            if m.name.startswith(f"{Kind.COORDINATOR}/")
            and not m.draining
            and (address := where(m, outside=outside))
        ]
        return tuple(serving[:PLACES_MAX])

    def agents(self) -> list[Member]:
        """The agents with a live lease."""
        return [m for m in self.members if m.name.startswith(f"{Kind.AGENT}/")]

    def survey(self, after: str = "") -> Surveyed:
        """The same as an answer: one page of it."""
        if self._names is None:
            self._names = sorted(self._series)
        begin = bisect_right(self._names, after)
        rest = self._names[begin : begin + surveying.PAGE_SERIES]
        page = surveying.cut([self._series[name] for name in rest])
        more = begin + len(page) < len(self._names)
        told = Surveyed(
            series=page,
            shard_points=self.shard_points,
            position=max(self.position, 0),
            more=more,
        )
        if after:
            return told
        decisions, verdicts, ticks = self.counts
        return msgspec.structs.replace(
            told, members=self.members, decisions=decisions, verdicts=verdicts, ticks=ticks
        )
