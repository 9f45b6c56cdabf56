"""What a coordinator knows without asking: series, members, learning states, feed position.

Everything comes from sync: a survey lays the ground, the change feed keeps it current.  Points
carry absolute positions, so a change that the survey had already counted changes nothing.  A
state is kept as the bytes it came in and decoded when first needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midstreamer import reasoning
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import universe_of
from midstreamer.domain.shard import Shard, shards_of
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.protocol.frames import (
    Change,
    Joined,
    Learned,
    Member,
    Points,
    SeriesSummary,
    Surveyed,
)


@dataclass
class _Known:
    """A stream's newest state; ``state`` is None until somebody asks."""

    version: int
    data: bytes
    state: State | None = None


class Catalogue:
    """The coordinator's picture of everything, at ``position``."""

    def __init__(self) -> None:
        self.position = -1
        self.shard_points = 0
        self.members: tuple[Member, ...] = ()
        self.counts: tuple[int, int, int] = (0, 0, 0)
        """Decisions, verdicts and ticks stored, as the last survey told."""
        self._series: dict[str, SeriesSummary] = {}
        self._universes: dict[str, set[str]] = {}
        self._states: dict[str, _Known] = {}

    def clear(self) -> None:
        """Forget everything: changes were missed."""
        self.position = -1
        self._series.clear()
        self._universes.clear()
        self._states.clear()

    # --- coming in ---

    def surveyed(self, survey: Surveyed) -> None:
        """Take a survey in; what the feed has told meanwhile is kept."""
        self.shard_points = survey.shard_points
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
                case Learned(stream, version, data):
                    self._states[stream] = _Known(version, data)
                case Joined(members):
                    self.members = members
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
        if known is None or summary.count > known.count:
            self._series[summary.series] = summary
            self._universes.setdefault(universe_of(summary.series), set()).add(summary.series)

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
        return [
            shard
            for universe in universes
            for summary in self.universe(universe)
            for shard in shards_of(summary.series, summary.count, self.shard_points)
        ]

    def state(self, specification: Specification) -> State:
        """The newest state of a specification's stream; the initial one before any learning."""
        known = self._states.get(specification.stream)
        if known is None:
            return reasoning.initial(specification)
        if known.state is None:
            known.state = reasoning.decode(known.data)
        return known.state

    def agents(self) -> list[Member]:
        """The agents with a live lease."""
        return [m for m in self.members if m.name.startswith(f"{Kind.AGENT}/")]

    def survey(self) -> Surveyed:
        """The same as an answer."""
        decisions, verdicts, ticks = self.counts
        return Surveyed(
            series=tuple(self._series[name] for name in sorted(self._series)),
            members=self.members,
            shard_points=self.shard_points,
            decisions=decisions,
            verdicts=verdicts,
            ticks=ticks,
            position=max(self.position, 0),
        )
