"""The catalogue: a survey and the feed come to the same, in whatever order they arrive."""

import pytest

from midstreamer import reasoning
from midstreamer.coordinator.catalogue import Catalogue
from midstreamer.domain.shard import Shard
from midstreamer.protocol.frames import (
    Joined,
    Learned,
    Member,
    Points,
    SeriesSummary,
    Surveyed,
)
from tests.support.fleet import MINUTE, a_column, a_decision, a_specification

SURVEY = Surveyed(
    series=(SeriesSummary("walk/a", 10, 0, 9 * MINUTE, 1.0),), shard_points=8, position=3
)


def test_points_that_the_survey_counted_change_nothing() -> None:
    made = Catalogue()
    made.surveyed(SURVEY)
    made.apply([Points(0, a_column(10))], 3)
    made.apply([Points(5, a_column(10, first=5))], 3)
    assert made.series("walk/a") == SURVEY.series[0]


def test_a_survey_older_than_the_feed_takes_nothing_back() -> None:
    made = Catalogue()
    made.apply([Points(10, a_column(20, first=10))], 4)
    made.surveyed(SURVEY)
    summary = made.series("walk/a")
    assert summary is not None
    assert (summary.count, summary.last_time) == (20, 19 * MINUTE)


def test_shards_follow_from_the_counts() -> None:
    made = Catalogue()
    made.surveyed(SURVEY)
    made.apply([Points(0, a_column(3, series="other/b"))], 4)
    assert made.shards(["walk"]) == [Shard("walk/a", 0), Shard("walk/a", 1)]
    assert made.shards(made.universes()) == [Shard("other/b", 0), *made.shards(["walk"])]


def test_the_newest_state_is_the_one_told_last() -> None:
    made, specification = Catalogue(), a_specification()
    assert made.state(specification).version == 0
    learned = reasoning.learn(reasoning.initial(specification), a_decision())
    told = Learned(specification.stream, learned.version, reasoning.encode(learned))
    made.apply([told], 9)
    assert reasoning.encode(made.state(specification)) == told.state
    assert made.state(specification) is made.state(specification)


def test_what_was_followed_can_be_told_again() -> None:
    made, member = Catalogue(), Member("agent/a1", "i", "")
    made.surveyed(SURVEY)
    made.apply([Joined((member,))], 12)
    survey = made.survey()
    assert (survey.series, survey.members, survey.position) == (SURVEY.series, (member,), 12)


@pytest.mark.parametrize("universe", ["walk", "other"])
def test_forgetting_leaves_nothing(universe: str) -> None:
    made = Catalogue()
    made.surveyed(SURVEY)
    made.clear()
    assert made.universe(universe) == []
    assert made.position == -1
