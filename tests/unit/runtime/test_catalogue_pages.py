"""The catalogue comes in pages: each page fits a frame, and all pages together are complete."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import BadInput, RemoteProtocolError
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Member, SeriesSummary, Survey, Surveyed
from midstreamer.runtime import catalogue_pages

FAR = 2**62


class Server:
    """A fake server that sends its catalogue in pages, each at a later position of the feed."""

    def __init__(self, *names: str, size: int = 2) -> None:
        self.names = sorted(names)
        self.size = size
        self.position = itertools.count(7)

    async def ask(self, request: Survey) -> Surveyed:
        rest = [name for name in self.names if name > request.after]
        page = tuple(SeriesSummary(name, 1, 0, 0, 1.0) for name in rest[: self.size])
        answer = Surveyed(series=page, more=len(rest) > self.size, position=next(self.position))
        if request.after:
            return answer
        return Surveyed(
            series=page,
            more=answer.more,
            position=answer.position,
            ticks=9,
            members=(Member("agent/a", "i", ""),),
        )


@given(st.sets(st.text("abc", min_size=1, max_size=3), max_size=9), st.integers(1, 4))
async def test_all_pages_are_one_value_true_at_the_first_position(
    names: set[str], size: int
) -> None:
    surveyed = await catalogue_pages.whole(Server(*names, size=size).ask)
    assert [summary.series for summary in surveyed.series] == sorted(names)
    assert (surveyed.position, surveyed.ticks, len(surveyed.members), surveyed.more) == (
        7,
        9,
        1,
        False,
    )


async def test_pages_that_lead_nowhere_are_not_followed_for_ever() -> None:
    async def ask(request: Survey) -> Surveyed:
        return Surveyed(series=(SeriesSummary("b", 1, 0, 0, 1.0),), more=True)

    with pytest.raises(RemoteProtocolError, match="after 'b' ends at 'b': it must end later"):
        await catalogue_pages.whole(ask)


@pytest.mark.parametrize("after", ["u/\0", "n" * 129])
def test_a_page_after_what_is_no_name_is_refused(after: str) -> None:
    with pytest.raises(BadInput, match="name of the last series of the page before"):
        catalogue_pages.check(Survey(after=after))


def test_a_page_of_the_longest_names_and_numbers_stays_far_below_a_frame() -> None:
    names = (f"u/{place:0126d}" for place in range(catalogue_pages.PAGE_SERIES + 1))
    summaries = [SeriesSummary(name, FAR, -FAR, FAR, 1 / 3) for name in names]
    page = catalogue_pages.cut(summaries)
    assert 1000 < len(page) < len(summaries)
    assert len(codec.encode(Surveyed(series=page))) <= 1.01 * catalogue_pages.PAGE_BYTES
