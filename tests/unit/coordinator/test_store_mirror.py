"""A coordinator's catalogue is the same whether a survey or the change feed arrives first."""

import pytest

from midstreamer.coordinator.store_mirror import Catalogue
from midstreamer.domain.shard import Shard
from midstreamer.protocol import codec
from midstreamer.protocol.frames import (
    Joined,
    Member,
    Points,
    SeriesSummary,
    Surveyed,
)
from midstreamer.runtime import catalogue_pages
from tests.support.fleet import MINUTE, a_column

SURVEY = Surveyed(
    series=(SeriesSummary("walk/a", 10, 0, 9 * MINUTE, 1.0),), shard_points=8, position=3
)


def test_points_that_the_survey_counted_change_nothing() -> None:
    catalogue = Catalogue()
    catalogue.surveyed(SURVEY)
    catalogue.apply([Points(0, a_column(10))], 3)
    catalogue.apply([Points(5, a_column(10, first=5))], 3)
    assert catalogue.series("walk/a") == SURVEY.series[0]


def test_a_survey_older_than_the_feed_takes_nothing_back() -> None:
    catalogue = Catalogue()
    catalogue.apply([Points(10, a_column(20, first=10))], 4)
    catalogue.surveyed(SURVEY)
    summary = catalogue.series("walk/a")
    assert summary is not None
    assert (summary.count, summary.last_time) == (20, 19 * MINUTE)


def test_shards_follow_from_the_counts() -> None:
    catalogue = Catalogue()
    catalogue.surveyed(SURVEY)
    catalogue.apply([Points(0, a_column(3, series="other/b"))], 4)
    assert catalogue.shards(["walk"]) == [Shard("walk/a", 0), Shard("walk/a", 1)]
    assert catalogue.shards(catalogue.universes()) == [
        Shard("other/b", 0),
        *catalogue.shards(["walk"]),
    ]


def test_what_was_followed_can_be_told_again() -> None:
    catalogue, member = Catalogue(), Member("agent/a1", "i", "")
    catalogue.surveyed(SURVEY)
    catalogue.apply([Joined((member,))], 12)
    survey = catalogue.survey()
    assert (survey.series, survey.members, survey.position) == (SURVEY.series, (member,), 12)


def test_a_catalogue_is_sent_in_pages_that_fit_a_frame() -> None:
    catalogue = Catalogue()
    names = [f"walk/{place:0123d}" for place in range(20_000)]
    catalogue.surveyed(
        Surveyed(series=tuple(SeriesSummary(n, 1, 0, 0, 1.0) for n in names), ticks=7)
    )
    listed, after, more = [], "", True
    while more:
        page = catalogue.survey(after)
        assert len(codec.encode(page)) <= 1.1 * catalogue_pages.PAGE_BYTES
        assert page.ticks == (0 if after else 7)
        listed += [summary.series for summary in page.series]
        after, more = listed[-1], page.more
    assert listed == names


def test_shards_are_counted_again_when_one_is_added() -> None:
    catalogue = Catalogue()
    catalogue.surveyed(SURVEY)
    assert len(catalogue.shards(["walk"])) == 2
    catalogue.apply([Points(10, a_column(16, first=10))], 4)
    assert len(catalogue.shards(["walk"])) == 2
    catalogue.apply([Points(16, a_column(17, first=16))], 5)
    assert len(catalogue.shards(["walk"])) == 3


@pytest.mark.parametrize("universe", ["walk", "other"])
def test_forgetting_leaves_nothing(universe: str) -> None:
    catalogue = Catalogue()
    catalogue.surveyed(SURVEY)
    catalogue.clear()
    assert catalogue.universe(universe) == []
    assert catalogue.position == -1


def test_only_shards_in_which_a_window_begins_are_searched_and_those_of_its_own_series() -> None:
    catalogue = Catalogue()
    catalogue.surveyed(SURVEY)  # the survey lists ten points of walk/a, in shards of eight points
    catalogue.apply([Points(0, a_column(3, series="walk/b"))], 4)
    assert catalogue.searchable("walk", 2) == [
        Shard("walk/a", 0),
        Shard("walk/a", 1),
        Shard("walk/b", 0),
    ]
    assert catalogue.searchable("walk", 4) == [Shard("walk/a", 0)]
    own = catalogue.searchable("walk", 4, ["walk/b", "walk/b", "walk/unknown"])
    assert own == [Shard("walk/a", 0), Shard("walk/b", 0)]
    catalogue.apply([Points(3, a_column(1, series="walk/b"))], 5)
    assert catalogue.searchable("walk", 4) == [Shard("walk/a", 0), Shard("walk/b", 0)]


def test_the_longest_series_of_a_universe_is_known() -> None:
    catalogue = Catalogue()
    assert catalogue.longest("walk") is None
    catalogue.surveyed(SURVEY)
    catalogue.apply([Points(0, a_column(3, series="walk/b"))], 4)
    longest = catalogue.longest("walk")
    assert longest is not None
    assert (longest.series, longest.count) == ("walk/a", 10)


def test_a_match_beside_fifty_thousand_short_series_asks_for_none_of_them() -> None:
    catalogue = Catalogue()
    short = tuple(SeriesSummary(f"walk/s{place}", 2, 0, 1, 1.0) for place in range(50_000))
    catalogue.surveyed(Surveyed(series=(*SURVEY.series, *short), shard_points=8))
    assert catalogue.searchable("walk", 4) == [Shard("walk/a", 0)]
